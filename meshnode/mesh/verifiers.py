"""The verifiers of evidence that are enabled here, run so that none can end or hold up the node: most are others' code.

Each runs in a thread of its own small pool, for so long; what it raises or says wrongly proves nothing. Not for whom to
ask (trust.ledger) nor for asking (vouching.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

import trio

from meshnode.config.trust import TrustSection
from meshnode.errors import ConfigError, DecodeError, EvidenceRefused
from meshnode.model.ids import NodeId
from meshnode.observe import log
from meshnode.trust import Attested, OperatorVerifier, Verifier, judge
from meshnode.trust.attestation import MAX_EVIDENCE_BYTES, OPERATOR, Evidence
from meshnode.trust.keys import parse_keys

logger = log.get("mesh")

T = TypeVar("T")

ENTRY_POINTS = "meshnode.verifiers"

ANSWER_S = 10.0
"""A signature, or a TPM's second. A thread that hangs cannot be ended: it is left behind, and its place is not given
to another, so that a verifier that always hangs soon proves nothing more."""

THREADS = 8
"""As many as there are questions under way (trust.ledger)."""


class Verifiers:
    """Those that `section` names. Raises ConfigError."""

    def __init__(self, section: TrustSection) -> None:
        self._verifiers = enabled(section)
        self._provers = {
            kind: made
            for kind, verifier in self._verifiers.items()
            if callable(made := getattr(verifier, "prove", None))
        }
        self._threads = trio.CapacityLimiter(THREADS)

    def __bool__(self) -> bool:
        return bool(self._verifiers)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Types of evidence that are understood."""
        return tuple(sorted(self._verifiers))

    @property
    def prove(self) -> bool:
        """Whether one of them has something to show of this node itself."""
        return bool(self._provers)

    async def judge(self, data: bytes, nonce: bytes, node: NodeId) -> Attested:
        """What `node` has shown. Raises EvidenceRefused, DecodeError."""
        return await self._run(lambda: judge(data, nonce, node, self._verifiers, int(time.time())), node)

    async def evidence(self, kind: str, nonce: bytes, me: NodeId) -> bytes | None:
        """An envelope of what the verifier of this kind shows of this node; None for nothing."""
        made = self._provers.get(kind)
        if made is None:
            return None
        try:
            shown = await self._run(lambda: made(nonce, me), me)
        except (EvidenceRefused, DecodeError) as error:
            logger.debug("there is no evidence to show", kind=kind, reason=str(error))
            return None
        if not isinstance(shown, bytes) or not 0 < len(shown) <= MAX_EVIDENCE_BYTES:
            return None
        return Evidence(kind, nonce, shown).pack()

    async def _run(self, work: Callable[[], T], about: NodeId) -> T:
        with trio.move_on_after(ANSWER_S):
            try:
                return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._threads)
            except (EvidenceRefused, DecodeError):
                raise
            except Exception as error:  # crash barrier: a verifier's fault is not the node's, and proves nothing
                log.crash(logger, "a verifier crashed", error, peer=about.short, do="nothing it judges is attested")
                raise EvidenceRefused(f"the verifier crashed: {type(error).__name__}") from error
        raise EvidenceRefused(f"the verifier took longer than {ANSWER_S:.0f} s")


def enabled(section: TrustSection) -> Mapping[str, Verifier]:
    """The verifiers that `trust.verifiers` names, loaded; the operator's only with operators to believe. An entry
    point gives a callable without arguments; what it makes may have `prove(nonce, node)` too, for this node itself.

    Raises ConfigError."""
    operators = parse_keys(section.operators, "trust.operators")
    found: dict[str, Verifier] = {}
    faults: list[str] = []
    for name in section.verifiers:
        if name == OPERATOR:
            if operators:
                found[name] = OperatorVerifier(operators)
            continue
        installed = list(entry_points(group=ENTRY_POINTS, name=name))
        made = _made(installed[0], faults) if installed else None
        if made is not None:
            found[name] = made
        elif not installed:
            faults.append(f"trust.verifiers: no installed package has a verifier {name!r}")
    if faults:
        raise ConfigError(faults)
    return found


def _made(point: EntryPoint, faults: list[str]) -> Verifier | None:
    try:
        return point.load()()  # type: ignore[no-any-return]
    except Exception as error:  # crash barrier: others' code; the node says so instead of ending with its trace
        log.crash(logger, "a verifier cannot be made", error, verifier=point.name)
        faults.append(f"trust.verifiers: the verifier {point.name!r} cannot be made: {type(error).__name__}")
        return None

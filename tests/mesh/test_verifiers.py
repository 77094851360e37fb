"""A verifier that is others' code proves nothing when it crashes, hangs or says nonsense, and ends no node."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from meshnode.config.trust import TrustSection
from meshnode.errors import ConfigError, EvidenceRefused
from meshnode.identity import NodeKey
from meshnode.mesh import verifiers
from meshnode.mesh.verifiers import Verifiers, enabled
from meshnode.trust import Attested
from meshnode.trust.attestation import Evidence, read

ME = NodeKey.from_seed(b"m" * 32).id
NONCE = b"n" * 32
FAR = 2**40
ENVELOPE = Evidence("tpm", NONCE, b"quote").pack()


@dataclass
class Plugin:
    """Does what a test hands in."""

    says: Callable[[], Any]

    def verify(self, *_: object) -> Any:
        return self.says()

    def prove(self, *_: object) -> Any:
        return self.says()


def plugged(monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any]) -> TrustSection:
    point = SimpleNamespace(name="tpm", load=lambda: make)
    monkeypatch.setattr(verifiers, "entry_points", lambda **_: [point])
    return TrustSection(verifiers=("tpm",))


@pytest.fixture
def hung() -> Iterator[Callable[[], None]]:
    done = threading.Event()

    def hang() -> None:
        done.wait()

    yield hang
    done.set()


async def test_one_that_works_is_believed_and_shows_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    good = Verifiers(plugged(monkeypatch, lambda: Plugin(lambda: Attested("tpm", FAR))))
    assert (await good.judge(ENVELOPE, NONCE, ME)).by == "tpm"
    shows = Verifiers(plugged(monkeypatch, lambda: Plugin(lambda: b"quote")))
    assert shows.prove
    assert read(await shows.evidence("tpm", NONCE, ME) or b"") == Evidence("tpm", NONCE, b"quote")


def crash() -> Any:
    raise RuntimeError("canary")


@pytest.mark.parametrize(
    "says", [crash, lambda: None, lambda: True, lambda: Attested("tpm", None), lambda: Attested("tpm", float("nan"))]
)  # fmt: skip
async def test_one_that_crashes_or_says_nonsense_attests_nobody(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], says: Callable[[], Any]
) -> None:
    found = Verifiers(plugged(monkeypatch, lambda: Plugin(says)))
    with pytest.raises(EvidenceRefused):
        await found.judge(ENVELOPE, NONCE, ME)
    assert await found.evidence("tpm", NONCE, ME) is None
    out = capsys.readouterr().out
    assert "canary" not in out and ("a verifier crashed" in out) is (says is crash)


async def test_one_that_hangs_attests_nobody_and_holds_up_nothing(
    monkeypatch: pytest.MonkeyPatch, hung: Callable[[], None], autojump_clock: object
) -> None:
    found = Verifiers(plugged(monkeypatch, lambda: Plugin(hung)))
    for _ in range(2 * verifiers.THREADS):
        with pytest.raises(EvidenceRefused, match="longer than"):
            await found.judge(ENVELOPE, NONCE, ME)
    assert found._threads.borrowed_tokens == verifiers.THREADS


@pytest.mark.parametrize("make", [crash, lambda: 1 // 0])
def test_one_that_cannot_be_made_keeps_the_node_from_starting_in_words(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any]
) -> None:
    with pytest.raises(ConfigError, match="'tpm' cannot be made"):
        enabled(plugged(monkeypatch, make))

"""Asks nodes for evidence of what they claim, and answers who asks this one: one question and answer on a link.

Adverts carry a digest and a claim, since they have 4 KiB for everything; what proves them is fetched here by whoever
believes its signer, once a digest. A node that no link leads to is asked over a tunnel, whose handshake key the answer
is bound to. Whom to ask and when is trust.ledger's. Counterpart: the same class at the other end. protocol.md §7.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

import msgspec
import trio
from msgspec import Meta

from meshnode.config.trust import TrustSection
from meshnode.errors import DecodeError, EvidenceRefused, LinkError, PeerFailed, SecretFileError
from meshnode.mesh.exchange import answer, ask, read, refuse
from meshnode.mesh.verifiers import ANSWER_S, Verifiers
from meshnode.model import codec
from meshnode.model.ids import NodeId
from meshnode.net import Link, LinkStream
from meshnode.observe import log
from meshnode.trust import bound_nonce, manifest, prove
from meshnode.trust.ageing import Ageing
from meshnode.trust.attestation import MAX_EVIDENCE_BYTES, OPERATOR
from meshnode.trust.dsse import MAX_ENVELOPE_BYTES
from meshnode.trust.keys import Digest, Key, parse_keys
from meshnode.trust.ledger import (
    Challenge,
    Challenged,
    Changed,
    Claim,
    Command,
    Event,
    Fetch,
    Fetched,
    Ledger,
    Seen,
    Tick,
)

if TYPE_CHECKING:
    from meshnode.identity import NodeKey
    from meshnode.mesh.mesh import Mesh
    from meshnode.model.advert import Advert
    from meshnode.trust import SignedStatement

logger = log.get("mesh")

PATH = "/meshnode/posture"

MAX_QUESTION_BYTES = 1024

SETTLE_S = 1.0
"""Between looks at what nodes claim: views change in bursts."""

LOOK_S = 30.0
"""Without news: this node may have joined another mesh, or been given a statement."""

AT_ONCE = 8
"""Questions of others in hand."""

_Kind = Annotated[str, Meta(min_length=1, max_length=32)]


class ShowYourself(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True, tag="challenge"):
    """Evidence of one of these kinds, for this challenge, on the link that `link_key` (of who is asked) made."""

    challenge: Digest
    link_key: Key
    kinds: Annotated[tuple[_Kind, ...], Meta(min_length=1, max_length=8)]


class ShowManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True, tag="manifest"):
    """The envelope of the manifest of weights that are offered."""

    digest: Digest


Question = ShowYourself | ShowManifest


@dataclass(frozen=True, slots=True)
class Shown:
    """What this node can show: `statement()` reads the disk; `manifest(digest)` is its envelope, `digests()` those that
    are verified here."""

    statement: Callable[[], SignedStatement | None]
    manifest: Callable[[bytes], bytes | None]
    digests: Callable[[], frozenset[bytes]]


class Vouching:
    """`run` asks; `serve` answers; `attested` says whether this node has something to show. `mesh()` is the present
    one; `changed()` is told when `attested` has changed. Raises ConfigError."""

    def __init__(
        self, key: NodeKey, section: TrustSection, shown: Shown, mesh: Callable[[], Mesh], changed: Callable[[], None]
    ) -> None:
        self._key = key
        self._shown = shown
        self._mesh = mesh
        self._changed = changed
        self._signers = parse_keys(section.signers, "trust.signers")
        self._verifiers = Verifiers(section)
        self._machine = Ledger(challenges=bool(self._verifiers), fetches=bool(self._signers))
        self._clock = Ageing(trio.current_time(), time.time())
        self._nursery: trio.Nursery | None = None
        self._in_hand = 0
        self.attested = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow what nodes claim and ask for it. Returns only by cancellation."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._watch_clocks)
            task_status.started()
            while True:
                await self._look_at_myself()
                mesh = self._mesh()
                view = mesh.view()
                claims = {node: _claim(advert) for node, advert in view.adverts.items() if node != view.me}
                self._handle(Seen(claims))
                self._tell()
                wakeup = self._machine.next_wakeup()
                news = mesh.changed
                # What was not due a moment ago may be overdue by now.
                due_s = LOOK_S if wakeup is None else max(0.0, wakeup - self._now())
                with trio.move_on_after(min(LOOK_S, due_s)):
                    await news.wait()
                await trio.sleep(SETTLE_S)

    async def serve(self, link: Link, stream: LinkStream) -> None:
        """Answer one question of a peer. Raises LinkError when it goes away meanwhile."""
        if self._in_hand >= AT_ONCE:
            await refuse(stream, "it is busy with other questions: ask again in a moment")
            return
        self._in_hand += 1
        try:
            with trio.move_on_after(2 * ANSWER_S):
                data = await read(stream, MAX_QUESTION_BYTES)
                await answer(stream, await self._answer(data))
        except (DecodeError, EvidenceRefused) as error:
            await refuse(stream, str(error))
        finally:
            self._in_hand -= 1

    async def _answer(self, data: bytes) -> bytes:
        question = read_question(data)
        if isinstance(question, ShowManifest):
            envelope = self._shown.manifest(question.digest)
            if envelope is None:
                raise EvidenceRefused("none: there is no manifest of these weights here")
            return envelope
        # Its own keys only: who names another sits between two links.
        if question.link_key not in self._mesh().link_keys:
            raise EvidenceRefused("none: this link was not made with that key")
        nonce = bound_nonce(question.challenge, question.link_key, self._key.id)
        for kind in question.kinds:
            shown = await self._evidence(kind, nonce)
            if shown is not None:
                return shown
        raise EvidenceRefused("none: this node has nothing of that kind to show")

    async def _evidence(self, kind: str, nonce: bytes) -> bytes | None:
        if kind == OPERATOR:
            statement = await self._statement()
            return prove(statement, nonce, self._key.sign) if statement is not None else None
        return await self._verifiers.evidence(kind, nonce, self._key.id)

    async def _statement(self) -> SignedStatement | None:
        """The operator's, while it counts."""
        try:
            found = await trio.to_thread.run_sync(self._shown.statement)
            if found is not None:
                found.check(self._key.id, int(time.time()))
        except (SecretFileError, EvidenceRefused, DecodeError) as error:
            logger.debug("there is no statement to show", reason=str(error))
            return None
        return found

    async def _look_at_myself(self) -> None:
        attested = self._verifiers.prove or await self._statement() is not None
        if attested != self.attested:
            self.attested = attested
            self._changed()

    def _now(self) -> float:
        return self._clock.read(trio.current_time(), time.time())

    async def _watch_clocks(self) -> None:
        """A machine that has slept believes nobody for what was shown before, however long its timers have to run."""
        while True:
            await trio.sleep(SETTLE_S)
            now = self._now()
            if self._clock.leapt:
                self._perform(self._machine.handle(Tick(), now))

    def _handle(self, event: Event) -> None:
        self._perform(self._machine.handle(event, self._now()))

    def _perform(self, commands: list[Command]) -> None:
        assert self._nursery is not None
        for command in commands:
            match command:
                case Challenge(node):
                    self._nursery.start_soon(self._challenge, node)
                case Fetch(node, digest):
                    self._nursery.start_soon(self._fetch, node, digest)
                case Changed():
                    self._tell()

    def _tell(self) -> None:
        machine, me = self._machine, self._key.id
        own = self._shown.digests()
        self._mesh().outlook.vouch(machine.postures, {**machine.weights, me: own} if own else machine.weights)

    async def _challenge(self, node: NodeId) -> None:
        fresh_s = None
        try:
            link = await self._link(node)
            static, challenge = link.membership.static, secrets.token_bytes(32)
            question = codec.encode(ShowYourself(challenge, static, self._verifiers.kinds[:8]))
            data = await ask(link, PATH, question, timeout_s=2 * ANSWER_S, limit=MAX_EVIDENCE_BYTES + 256)
            found = await self._verifiers.judge(data, bound_nonce(challenge, static, node), node)
            fresh_s = max(0.0, found.until - time.time())
            logger.info("a node is attested", peer=node.short, by=found.by, fresh_s=fresh_s)
        except (LinkError, PeerFailed, DecodeError, EvidenceRefused) as error:
            logger.info("a node is not attested", peer=node.short, reason=str(error))
        self._handle(Challenged(node, fresh_s))

    async def _fetch(self, node: NodeId, digest: bytes) -> None:
        covered = False
        try:
            link = await self._link(node)
            question = codec.encode(ShowManifest(digest))
            data = await ask(link, PATH, question, timeout_s=ANSWER_S, limit=MAX_ENVELOPE_BYTES)
            covered = manifest.verify(data, self._signers).manifest.digest == digest
            logger.info("weights are signed", peer=node.short, sha256=digest.hex(), covered=covered)
        except (LinkError, PeerFailed, DecodeError, EvidenceRefused) as error:
            logger.info("weights are not signed by anybody trusted", peer=node.short, reason=str(error))
        self._handle(Fetched(node, digest, covered))

    async def _link(self, node: NodeId) -> Link:
        mesh = self._mesh()
        link = mesh.link(node)
        return link if link is not None else (await mesh.tunnels.link(node)).link


def read_question(data: bytes) -> Question:
    """A stranger's bytes as a question. Raises DecodeError."""
    return cast("Question", codec.decode(data, Question, limit=MAX_QUESTION_BYTES))  # type: ignore[arg-type]


def _claim(advert: Advert) -> Claim:
    offers = [offer for offer in advert.models if not offer.down]
    digests = frozenset(offer.digest for offer in offers if len(offer.digest) == 32)
    return Claim(advert.posture == "attested", digests, bool(offers) and all(offer.digest for offer in offers))

"""Evidence on real links: over tunnels too, and none that was forged, replayed, lent or made for another link."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio

from meshnode.errors import EvidenceRefused, NoEligibleNode, PeerFailed
from meshnode.identity import NodeKey
from meshnode.keep.home import Home
from meshnode.mesh import vouching
from meshnode.mesh.exchange import ask
from meshnode.mesh.vouching import ShowYourself, Vouching, read_question
from meshnode.model import codec
from meshnode.model.posture import Posture
from meshnode.node import Node
from meshnode.testing import FakeEngine
from meshnode.trust import SignedStatement, Statement, bound_nonce, prove
from meshnode.trust.attestation import Evidence
from meshnode.trust.ledger import Challenged, Event, Ledger
from tests.kit.waiting import PATIENCE_S
from tests.test_proofs import MODEL, OPERATOR, OPERATORS, attest, join, mesh, sensitive, settings, until

STRANGER = NodeKey.from_seed(b"x" * 32)


@pytest.fixture
async def engine(nursery: trio.Nursery) -> FakeEngine:
    fake = FakeEngine()
    await nursery.start(fake.run)
    return fake


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow one another at once: what is tested is what they find."""
    monkeypatch.setattr(vouching, "SETTLE_S", 0.02)
    monkeypatch.setattr(vouching, "LOOK_S", 0.2)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> trio.MemoryReceiveChannel[Challenged]:
    """The challenges as they end, whoever made them."""
    found, said = trio.open_memory_channel[Challenged](100)
    real = Ledger.handle

    def note(ledger: Ledger, event: Event, now: float) -> object:
        commands = real(ledger, event, now)
        if isinstance(event, Challenged):
            found.send_nowait(event)
        return commands

    monkeypatch.setattr(Ledger, "handle", note)
    return said


def said(key: NodeKey, by: NodeKey = OPERATOR, ends_s: int = 3600) -> SignedStatement:
    now = int(time.time())
    return SignedStatement.sign(Statement(bytes(key.id), "", now - 10, now + ends_s), by.public, by.sign)


def honest(key: NodeKey, link_key: bytes, challenge: bytes) -> bytes:
    return prove(said(key), bound_nonce(challenge, link_key, key.id), key.sign)


def replayed(key: NodeKey, link_key: bytes, challenge: bytes) -> bytes:
    return honest(key, link_key, b"an earlier challenge".ljust(32))


def relabelled(key: NodeKey, link_key: bytes, challenge: bytes) -> bytes:
    old = codec.decode(replayed(key, link_key, challenge), Evidence)
    return Evidence(old.type, bound_nonce(challenge, link_key, key.id), old.evidence).pack()


def of_another_link(key: NodeKey, link_key: bytes, challenge: bytes) -> bytes:
    return honest(key, b"k" * 32, challenge)


def forged(key: NodeKey, link_key: bytes, challenge: bytes) -> bytes:
    real = said(key, STRANGER)
    claimed = SignedStatement(real.body, OPERATOR.public, real.signature)
    return prove(claimed, bound_nonce(challenge, link_key, key.id), key.sign)


def lent(key: NodeKey, link_key: bytes, challenge: bytes) -> bytes:
    return prove(said(STRANGER), bound_nonce(challenge, link_key, key.id), key.sign)


def signed_by_another(key: NodeKey, link_key: bytes, challenge: bytes) -> bytes:
    return prove(said(key), bound_nonce(challenge, link_key, key.id), STRANGER.sign)


def expired(key: NodeKey, link_key: bytes, challenge: bytes) -> bytes:
    return prove(said(key, ends_s=-5), bound_nonce(challenge, link_key, key.id), key.sign)


def none(key: NodeKey, link_key: bytes, challenge: bytes) -> bytes:
    return b"x" * 100


@pytest.mark.parametrize(
    ("shows", "holds"),
    [
        (honest, True),
        *((lie, False) for lie in (
            replayed, relabelled, of_another_link, forged, lent, signed_by_another, expired, none,
        )),
    ],
)  # fmt: skip
async def test_only_an_answer_to_this_challenge_on_this_link_counts(
    tmp_path: Path,
    engine: FakeEngine,
    ended: trio.MemoryReceiveChannel[Challenged],
    monkeypatch: pytest.MonkeyPatch,
    shows: Callable[[NodeKey, bytes, bytes], bytes],
    holds: bool,
) -> None:
    async def show(_: Vouching, data: bytes) -> bytes:
        question = read_question(data)
        assert isinstance(question, ShowYourself)
        return shows(Home(tmp_path / "server").node_key(), question.link_key, question.challenge)

    monkeypatch.setattr(Vouching, "_answer", show)
    async with mesh(tmp_path, engine, {}, OPERATORS) as (server, asker):
        # It says that it is attested, as any liar can: so it is asked.
        attest(tmp_path / "server")
        with trio.fail_after(PATIENCE_S):
            first = await ended.receive()
        assert (first.node, first.fresh_s is not None) == (server.id, holds)
        assert (asker.member.view().postures.get(server.id) == Posture.ATTESTED) is holds
        if holds:
            assert 3500 < (first.fresh_s or 0) <= 3600
            assert await sensitive(asker) == "server"
        else:
            with pytest.raises(NoEligibleNode):
                await sensitive(asker)
            assert not engine.records


async def test_evidence_that_was_asked_for_on_one_link_is_not_shown_for_another(
    tmp_path: Path, engine: FakeEngine
) -> None:
    """Who sits between two nodes with a link to each cannot pass a challenge on: the key named is not its link's."""
    async with mesh(tmp_path, engine, {}, {}) as (server, asker):
        attest(tmp_path / "server")
        link = asker.member.link(server.id)
        between = asker.member.mesh.link_keys[0]
        question = codec.encode(ShowYourself(b"c" * 32, between, ("operator",)))
        with pytest.raises(PeerFailed, match="not made with that key"):
            await ask(link, vouching.PATH, question, timeout_s=20)


async def test_a_node_behind_a_relay_is_asked_over_a_tunnel(tmp_path: Path, engine: FakeEngine) -> None:
    links = {"dial_learned": False}
    async with (
        Node(settings("relay", links=links), home=tmp_path / "relay") as relay,
        Node(settings("server", (engine.url,), links), home=tmp_path / "server") as server,
        Node(settings("asker", links=links, **OPERATORS), home=tmp_path / "asker") as asker,
    ):
        await join(relay, server)
        await join(relay, asker)
        await until(asker, lambda: MODEL in asker.models())
        attest(tmp_path / "server")
        await until(asker, lambda: asker.member.view().postures.get(server.id) == Posture.ATTESTED)
        assert asker.member.link(server.id) is None
        assert await sensitive(asker) == "server"


async def test_a_question_that_falls_due_while_time_passes_ends_nothing(
    tmp_path: Path, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ledger, "next_wakeup", lambda _: -0.001)
    async with mesh(tmp_path, engine, {}, OPERATORS) as (server, asker):
        attest(tmp_path / "server")
        await until(asker, lambda: asker.member.view().postures.get(server.id) == Posture.ATTESTED)


async def test_a_machine_that_has_slept_asks_again_before_it_believes(
    tmp_path: Path, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The monotonic clock stands still meanwhile; only the wall clock tells."""
    async with mesh(tmp_path, engine, {}, OPERATORS) as (server, asker):
        attest(tmp_path / "server")
        await until(asker, lambda: asker.member.view().postures.get(server.id) == Posture.ATTESTED)

        async def silent(_: Vouching, __: bytes) -> bytes:
            raise EvidenceRefused("not now")

        monkeypatch.setattr(Vouching, "_answer", silent)
        monkeypatch.setattr(vouching, "time", SimpleNamespace(time=lambda: time.time() + 3700))
        await until(asker, lambda: server.id not in asker.member.view().postures)
        with pytest.raises(NoEligibleNode):
            await sensitive(asker)

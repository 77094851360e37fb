"""Evidence between two whole nodes: what is sensitive goes to who has proven itself, and to nobody else, ever."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import trio

from meshnode import chat as asking
from meshnode.cli import attest as statements
from meshnode.cli.place import Place
from meshnode.config import load
from meshnode.engine.weights import make_manifest, manifest_of
from meshnode.errors import DecodeError, EvidenceRefused, NoEligibleNode, PeerFailed
from meshnode.identity import NodeKey
from meshnode.keep.evidence import save_statement
from meshnode.keep.home import Home
from meshnode.mesh import vouching
from meshnode.mesh.exchange import ask
from meshnode.mesh.vouching import ShowManifest, ShowYourself
from meshnode.model import codec
from meshnode.model.ids import NodeId
from meshnode.model.job import Label
from meshnode.model.posture import Posture
from meshnode.node import Node
from meshnode.testing import FakeEngine
from meshnode.trust import SignedStatement, Statement
from meshnode.trust import manifest as manifests
from tests.kit.waiting import PATIENCE_S

OPERATOR = NodeKey.from_seed(b"o" * 32)
MODEL = "fake-model"

NOTHING: Mapping[str, Any] = MappingProxyType({})


def settings(name: str, urls: tuple[str, ...] = (), links: Mapping[str, Any] = NOTHING, **trust: Any) -> Any:
    """`links`: more of the section `mesh`."""
    return load(flags={
        "front": {"api": "127.0.0.1:0"}, "mesh": {"listen": "127.0.0.1:0", "mdns": False, **links},
        "engine": {"engines": ("none",), "urls": urls}, "node": {"name": name}, "trust": trust,
    })  # fmt: skip


def attest(home: Path, key: NodeKey = OPERATOR, node: NodeId | None = None, ends_s: int = 3600) -> None:
    """Put an operator's statement into a home."""
    about, now = node or Home(home).node_key().id, int(time.time())
    said = Statement(bytes(about), "a locked room", now - 10, now + ends_s)
    save_statement(home, SignedStatement.sign(said, key.public, key.sign))


async def until(node: Node, condition: Callable[[], object]) -> None:
    """Until it holds of what this node sees."""
    with trio.fail_after(PATIENCE_S):
        while not condition():
            await node.member.mesh.changed.wait()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow one another at once: what is tested is what they find."""
    monkeypatch.setattr(vouching, "SETTLE_S", 0.02)
    monkeypatch.setattr(vouching, "LOOK_S", 0.2)


@asynccontextmanager
async def mesh(tmp_path: Path, engine: FakeEngine, server: dict[str, Any], asker: dict[str, Any]) -> AsyncIterator[Any]:
    """Two nodes of one mesh, the first with an engine: (server, asker)."""
    async with (
        Node(settings("server", (engine.url,), **server), home=tmp_path / "server") as first,
        Node(settings("asker", **asker), home=tmp_path / "asker") as second,
    ):
        await join(first, second)
        await until(second, lambda: MODEL in second.models())
        yield first, second


async def join(inviter: Node, node: Node) -> None:
    """Into the inviter's mesh."""
    invite = await inviter.presence.doors(inviter.keys).control.invite(None, None, "", False)
    await node.presence.doors(node.keys).control.join(invite["token"])


async def sensitive(node: Node) -> str:
    """Which node answers a sensitive request. Raises NoEligibleNode."""
    body = asking.body(MODEL, "hi", stream=False, options={})
    job = asking.job(node.id, body, 30.0)
    answer = await node.dispatcher.dispatch(dataclasses.replace(job, label=Label.SENSITIVE))
    async for _ in answer:
        pass
    return answer.headers["x-meshnode-node"]


@pytest.fixture
async def engine(nursery: trio.Nursery) -> FakeEngine:
    fake = FakeEngine()
    await nursery.start(fake.run)
    return fake


OPERATORS = {"operators": (OPERATOR.id.text,)}


async def test_a_sensitive_request_waits_for_an_attested_node_and_never_goes_elsewhere(
    tmp_path: Path, engine: FakeEngine
) -> None:
    async with mesh(tmp_path, engine, {}, OPERATORS) as (server, asker):
        with pytest.raises(NoEligibleNode, match="neither attested nor pinned"):
            await sensitive(asker)
        attest(tmp_path / "server")
        await until(asker, lambda: asker.member.view().postures.get(server.id) == Posture.ATTESTED)
        assert await sensitive(asker) == "server"
        listed = {peer["name"]: peer["posture"] for peer in asker.peers()}
        assert listed == {"server": "attested"}
        before = len(engine.records)
        (tmp_path / "server" / "statement.cbor").unlink()
        await until(asker, lambda: asker.member.view().postures.get(server.id) != Posture.ATTESTED)
        with pytest.raises(NoEligibleNode):
            await sensitive(asker)
        assert len(engine.records) == before


@pytest.mark.parametrize(
    "claim",
    [
        {"key": NodeKey.from_seed(b"x" * 32)},
        {"node": NodeId(b"n" * 32)},
        {"ends_s": -5},
    ],
    ids=["another operator", "another node", "ended"],
)
async def test_a_statement_that_does_not_hold_is_worth_nothing(
    tmp_path: Path, engine: FakeEngine, claim: dict[str, Any]
) -> None:
    async with mesh(tmp_path, engine, {}, OPERATORS) as (server, asker):
        attest(tmp_path / "server", **claim)
        link = asker.member.link(server.id)
        question = codec.encode(ShowYourself(b"c" * 32, link.membership.static, ("operator",)))
        try:
            shown = await ask(link, vouching.PATH, question, timeout_s=20)
        except PeerFailed:
            shown = b""
        # Only the statement of another operator is shown at all; nobody here believes it.
        assert bool(shown) is ("key" in claim)
        assert asker.member.view().postures.get(server.id, Posture.CLAIMED) == Posture.CLAIMED
        with pytest.raises(NoEligibleNode):
            await sensitive(asker)


async def test_questions_that_are_none_are_refused(tmp_path: Path, engine: FakeEngine) -> None:
    attest_later = {"weights": ()}
    async with mesh(tmp_path, engine, attest_later, {}) as (server, asker):
        attest(tmp_path / "server")
        link = asker.member.link(server.id)
        static = link.membership.static
        for question, why in (
            (b"x", "canonical|CBOR|decode|end|valid"),
            (b"\x00" * 2000, "more than 1024"),
            (codec.encode(ShowManifest(b"d" * 32)), "no manifest"),
            (codec.encode(ShowYourself(b"c" * 32, b"k" * 32, ("operator",))), "not made with that key"),
            (codec.encode(ShowYourself(b"c" * 32, static, ("tpm",))), "nothing of that kind"),
        ):
            with pytest.raises(PeerFailed, match=why):
                await ask(link, vouching.PATH, question, timeout_s=20)
        assert await ask(
            link, vouching.PATH, codec.encode(ShowYourself(b"c" * 32, static, ("operator",))), timeout_s=20
        )


async def test_signed_weights_are_believed_by_those_who_trust_the_signer(tmp_path: Path, engine: FakeEngine) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"weights")
    made = make_manifest(file, MODEL, 1, lambda *_: None)
    manifest_of(file).write_bytes(manifests.sign(made, OPERATOR.public, OPERATOR.sign_envelope))
    believed = {"signers": (OPERATOR.id.text,)}
    server = {"weights": (f"{MODEL}={file}",), "weights_look_s": 0.1, **believed}
    async with mesh(tmp_path, engine, server, believed) as (first, second):
        await until(second, lambda: made.digest in second.member.view().weights.get(first.id, ()))
        assert second.member.view().postures[first.id] == Posture.SIGNED_WEIGHTS
        advert = second.member.view().adverts[first.id]
        assert (advert.posture, advert.models[0].digest) == ("signed-weights", made.digest)
        with pytest.raises(NoEligibleNode):
            await sensitive(second)
        file.write_bytes(b"Weights")
        await until(second, lambda: not second.member.view().adverts[first.id].models[0].digest)


class TestByHand:
    """What the commands make and take."""

    def test_a_statement_travels_as_one_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        home = Place(tmp_path / "home", usual=False)
        node = Home(home.path).node_key().id
        statements.make_key(tmp_path / "op.key", as_json=True)
        operator = json.loads(capsys.readouterr().out)["operator"]
        statements.sign(node.text, tmp_path / "op.key", "locked", 3, as_json=False)
        line = capsys.readouterr().out.strip()
        statements.keep(home, line, as_json=True)
        assert json.loads(capsys.readouterr().out)["operator"] == operator

    @pytest.mark.parametrize("line", ["", "mesh1-abc", "attest1-", "attest1-!!", "attest1-AAAA"])
    def test_what_is_no_statement_is_refused(self, tmp_path: Path, line: str) -> None:
        with pytest.raises(DecodeError):
            statements.keep(Place(tmp_path / "home", usual=False), line, as_json=True)

    def test_a_statement_on_another_node_is_not_kept(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        statements.make_key(tmp_path / "op.key", as_json=True)
        statements.sign(NodeId(b"n" * 32).text, tmp_path / "op.key", "", 3, as_json=False)
        line = capsys.readouterr().out.strip().splitlines()[-1]
        with pytest.raises(EvidenceRefused, match="another node"):
            statements.keep(Place(tmp_path / "home", usual=False), line, as_json=True)

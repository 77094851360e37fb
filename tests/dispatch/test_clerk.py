"""Receipts of whole requests between nodes: what the origin got is what the server signed."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from meshnode.dispatch.clerk import Clerk
from meshnode.errors import RequestError
from meshnode.identity import NodeKey
from meshnode.model.advert import ModelOffer
from meshnode.model.job import Label
from meshnode.trust import Expected, Receipt, SignedReceipt
from meshnode.trust.receipt import mismatch
from tests.kit.world import EVENT, LAST, ScriptedEngine, World, WorldNode, world
from tests.routing.build import job

MODEL = "llama"
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":33}}\n\n'


class Book:
    def __init__(self) -> None:
        self.own_ones: list[Receipt] = []
        self.came_ones: list[tuple[str, Expected]] = []

        self.keys: list[str] = []

    def own(self, receipt: Receipt, key: str = "") -> None:
        self.own_ones.append(receipt)
        self.keys.append(key)

    def came(self, trailer: str, expected: Expected, key: str = "") -> None:
        self.came_ones.append((trailer, expected))
        self.keys.append(key)


def keep(node: WorldNode) -> Book:
    book = Book()
    offer = ModelOffer(MODEL, digest=b"w" * 32, quant="Q4_K_M")
    clerk = Clerk(node.id, node.home.node_key().sign, lambda _: offer, book)
    around = dataclasses.replace(node.dispatcher._around, clerk=clerk)
    node.dispatcher._around = node.inbound._around = around
    return book


async def two(where: World, engine: ScriptedEngine) -> tuple[WorldNode, WorldNode]:
    server = await where.add("server", engine=engine)
    asker = await where.add("asker", peers=("server",))
    await asker.until_reachable({"server"}, "server")
    return asker, server


@pytest.mark.parametrize("label", [Label.INTERNAL, Label.PUBLIC])
async def test_the_server_signs_for_what_the_origin_got(
    tmp_path: Path, autojump_clock: MockClock, label: Label
) -> None:
    async with world(tmp_path) as where:
        asker, server = await two(where, ScriptedEngine(MODEL, [EVENT, EVENT, LAST]))
        book, _ = keep(asker), keep(server)
        _, body = await asker.ask_whole(MODEL, label=label)
        [(trailer, expected)] = book.came_ones
        said = SignedReceipt.of_trailer(trailer).check()
        assert mismatch(said, expected) == ""
        assert said.answer == hashlib.sha256(body).digest()
        assert (said.server, said.digest, said.quant) == (bytes(server.id), b"w" * 32, "Q4_K_M")
        assert said.tokens == 2


async def test_tokens_are_the_engines_own_count_where_it_gives_one(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        asker, server = await two(where, ScriptedEngine(MODEL, [EVENT, USAGE + LAST]))
        book, _ = keep(asker), keep(server)
        await asker.ask_whole(MODEL)
        assert SignedReceipt.of_trailer(book.came_ones[0][0]).receipt.tokens == 33


@pytest.mark.parametrize(
    ("said", "tokens"),
    [
        (b'{"usage": {"input_tokens": 9, "output_tokens" : 7}}', 7),
        (b'{"prompt_eval_count":9,"eval_count":8}', 8),
        (b'{"prompt_eval_count":9}', 2),
        (rb'{"choices":[{"delta":{"content":"say \"completion_tokens\": 5"}}]}', 2),
    ],
)
async def test_a_count_is_what_an_engine_says_and_not_what_a_text_does(
    tmp_path: Path, autojump_clock: MockClock, said: bytes, tokens: int
) -> None:
    async with world(tmp_path) as where:
        node = await where.add("node", engine=ScriptedEngine(MODEL, [EVENT, b"data: %b\n\n" % said + LAST]))
        book = keep(node)
        await node.ask_whole(MODEL)
        assert [one.tokens for one in book.own_ones] == [tokens]


async def test_a_role_is_no_token_and_llama_servers_own_count_goes_first(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    role = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":null}}]}\n\n'
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [role, EVENT, EVENT, LAST])
        asker, server = await two(where, engine)
        book, _ = keep(asker), keep(server)
        await asker.ask_whole(MODEL)
        engine.script = [role + EVENT, EVENT, LAST]
        await asker.ask_whole(MODEL)
        timings = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"timings":{"predicted_n":7}}\n\n'
        engine.script = [role, EVENT, timings, b"data: [DONE]\n\n"]
        await asker.ask_whole(MODEL)
        assert [SignedReceipt.of_trailer(came).receipt.tokens for came, _ in book.came_ones] == [2, 2, 7]


async def test_a_node_that_serves_itself_has_a_receipt_too(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        node = await where.add("node", engine=ScriptedEngine(MODEL))
        book = keep(node)
        _, body = await node.ask_whole(MODEL, label=Label.SENSITIVE)
        [said] = book.own_ones
        assert said.origin == said.server == bytes(node.id)
        assert said.answer == hashlib.sha256(body).digest()


async def test_an_answer_that_was_cut_has_none(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        asker, server = await two(where, ScriptedEngine(MODEL, [EVENT, EVENT]))
        book, _ = keep(asker), keep(server)
        with pytest.raises(RequestError):
            await asker.ask_whole(MODEL)
        assert book.came_ones == []


async def test_an_answer_that_its_client_left_has_none(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [EVENT, 5.0, LAST])
        asker, server = await two(where, engine)
        book, _ = keep(asker), keep(server)
        answer = await asker.ask(MODEL)
        await anext(answer)
        await answer.aclose()
        await engine.until(0)
        await trio.sleep(1)
        assert book.came_ones == []


async def test_a_server_without_receipts_is_noticed(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        asker, _ = await two(where, ScriptedEngine(MODEL))
        book = keep(asker)
        await asker.ask_whole(MODEL)
        assert [trailer for trailer, _ in book.came_ones] == [""]


async def test_a_large_request_is_hashed_as_it_is(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshnode.dispatch.clerk.LARGE_BYTES", 10)
    async with world(tmp_path) as where:
        asker, server = await two(where, ScriptedEngine(MODEL))
        book, _ = keep(asker), keep(server)
        await asker.ask_whole(MODEL)
        [(trailer, expected)] = book.came_ones
        assert mismatch(SignedReceipt.of_trailer(trailer).check(), expected) == ""


class Begun:
    """An answer that remembers whether it was let go."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.trailers: dict[str, str] = {}
        self.events = 0
        self.closed = False

    def __aiter__(self) -> Begun:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self.closed = True


@pytest.mark.parametrize("how", ["served", "own", "expected"])
async def test_who_leaves_while_a_large_request_is_hashed_lets_its_answer_go(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshnode.dispatch.clerk.LARGE_BYTES", 0)
    me, begun = NodeKey.generate(), Begun()
    clerk = Clerk(me.id, me.sign, lambda _: None, Book())
    more = (me.id,) if how == "expected" else ()
    with trio.CancelScope() as scope:
        scope.cancel()
        await getattr(clerk, how)(begun, job(), *more)
    assert scope.cancelled_caught
    assert begun.closed

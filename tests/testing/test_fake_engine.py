"""The fake engine keeps its promises: shapes as llama-server's, time as asked, and a record of who left."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
import trio
from trio.testing import memory_stream_pair

from meshnode.engine.client import EngineClient, whole
from meshnode.errors import EngineFailed
from meshnode.testing import Behaviour, FakeEngine


class Asking:
    """A fake in memory and a client of it, so that the clock may be virtual."""

    def __init__(self, fake: FakeEngine, nursery: trio.Nursery) -> None:
        self.fake = fake
        self.nursery = nursery
        self.client = EngineClient("http://fake", dial=self._dial)

    async def _dial(self) -> trio.abc.Stream:
        ours, theirs = memory_stream_pair()
        self.nursery.start_soon(self.fake.serve_stream, theirs)
        return ours

    async def post(self, path: str, **fields: Any) -> tuple[int, bytes]:
        got = await self.client.request("POST", path, None, json.dumps(fields).encode())
        return got.status, await whole(got, 1 << 20)

    async def events(self, **fields: Any) -> list[Any]:
        status, body = await self.post("/v1/chat/completions", messages=[], stream=True, **fields)
        assert status == 200
        *events, done, end = body.decode().split("\n\n")
        assert (done, end) == ("data: [DONE]", "")
        return [json.loads(event.removeprefix("data: ")) for event in events]


@pytest.fixture
async def asking(nursery: trio.Nursery) -> Asking:
    return Asking(FakeEngine(), nursery)


async def test_a_stream_has_role_tokens_and_finish(asking: Asking) -> None:
    first, *middle, last = await asking.events(max_tokens=2)
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert [event["choices"][0]["delta"]["content"] for event in middle] == ["t0 ", "t1 "]
    assert last["choices"][0]["finish_reason"] == "length"


async def test_usage_comes_in_a_chunk_of_its_own_when_asked(asking: Asking) -> None:
    *_, last = await asking.events(stream_options={"include_usage": True})
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 4


async def test_a_whole_answer_has_the_same_text(asking: Asking) -> None:
    status, body = await asking.post("/v1/chat/completions", messages=[], max_tokens=2)
    assert (status, json.loads(body)["choices"][0]["message"]["content"]) == (200, "t0 t1 ")
    status, body = await asking.post("/v1/completions", prompt="x", max_tokens=1)
    assert (status, json.loads(body)["choices"][0]["text"]) == (200, "t0 ")


async def test_embeddings_are_the_same_numbers_in_both_encodings(asking: Asking) -> None:
    _, floats = await asking.post("/v1/embeddings", input=["a", "b"])
    _, packed = await asking.post("/v1/embeddings", input=["a", "b"], encoding_format="base64")
    for number, text in zip(json.loads(floats)["data"], json.loads(packed)["data"], strict=True):
        unpacked = struct.unpack("<8f", base64.b64decode(text["embedding"]))
        assert number["embedding"] == pytest.approx(unpacked)


async def test_a_prompt_past_the_context_is_refused_as_llama_server_does(asking: Asking) -> None:
    asking.fake.context = 3
    status, body = await asking.post("/v1/completions", prompt="one two three four")
    assert (status, json.loads(body)["error"]["type"]) == (400, "exceed_context_size_error")


async def test_tokens_come_at_the_asked_pace(asking: Asking, autojump_clock: trio.testing.MockClock) -> None:
    await asking.events(fake={"prefill_s": 3, "token_s": 2, "tokens": 4})
    (record,) = asking.fake.records
    assert record.first_byte_at is not None and record.ended_at is not None
    assert record.first_byte_at - record.started_at == pytest.approx(3, abs=0.5)
    assert record.ended_at - record.first_byte_at == pytest.approx(6, abs=0.5)


async def test_more_requests_than_slots_wait(asking: Asking, autojump_clock: trio.testing.MockClock) -> None:
    fake = FakeEngine(slots=1, behaviour=Behaviour(tokens=1, prefill_s=5))
    one = Asking(fake, asking.nursery)
    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.events)
        nursery.start_soon(one.events)
    assert trio.current_time() - started == pytest.approx(10, abs=0.5)


async def test_a_status_is_answered_as_asked(asking: Asking) -> None:
    status, body = await asking.post("/v1/chat/completions", fake={"status": 500})
    assert (status, json.loads(body)["error"]["code"]) == (500, 500)


async def test_a_loading_server_says_so(asking: Asking) -> None:
    asking.fake.loading = True
    assert (await asking.client.read("GET", "/health"))[0] == 503


async def test_dying_in_a_stream_is_a_bare_end(asking: Asking) -> None:
    with pytest.raises(EngineFailed, match="ended the answer early"):
        await asking.events(fake={"end": "die", "at": 2})


@pytest.mark.parametrize("end", ["truncated", "unfinished"])
async def test_an_incomplete_stream_is_whole_http(asking: Asking, end: str) -> None:
    status, body = await asking.post("/v1/chat/completions", stream=True, fake={"end": end})
    assert status == 200
    assert b"[DONE]" not in body
    assert body.endswith(b"\n\n") is (end == "unfinished")


async def test_a_stream_is_spoilt_in_one_event_and_goes_on(asking: Asking) -> None:
    _, body = await asking.post("/v1/chat/completions", stream=True, fake={"end": "json", "at": 2})
    role, zero, one, spoilt, three, *_, done, end = body.split(b"\n\n")
    assert [json.loads(event[6:])["object"] for event in (role, zero, one, three)] == ["chat.completion.chunk"] * 4
    with pytest.raises(json.JSONDecodeError):
        json.loads(spoilt[6:])
    assert (done, end) == (b"data: [DONE]", b"")
    _, body = await asking.post("/v1/chat/completions", stream=True, fake={"end": "utf8", "at": 1})
    assert [b"\xff" in event for event in body.split(b"\n\n")] == [index == 2 for index in range(8)]


async def test_a_whole_answer_is_spoilt_alike(asking: Asking) -> None:
    status, body = await asking.post("/v1/chat/completions", messages=[], fake={"end": "json"})
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)
    assert status == 200
    _, body = await asking.post("/v1/chat/completions", messages=[], fake={"end": "utf8"})
    with pytest.raises(UnicodeDecodeError):
        body.decode()


@pytest.mark.parametrize("end", ["truncated", "die"])
async def test_a_whole_answer_that_is_cut_is_seen_to_be_cut(asking: Asking, end: str) -> None:
    with pytest.raises(EngineFailed):
        await asking.post("/v1/chat/completions", messages=[], fake={"end": end})


async def test_text_that_echoes_names_its_request(asking: Asking) -> None:
    echo = {"echo": True, "tokens": 2}
    _, body = await asking.post("/v1/chat/completions", messages=[{"role": "user", "content": "I am r7"}], fake=echo)
    assert json.loads(body)["choices"][0]["message"]["content"] == "r7.0 r7.1 "
    events = await asking.events(fake=echo)
    assert [event["choices"][0]["delta"].get("content") for event in events[1:3]] == [".0 ", ".1 "]


async def test_who_leaves_is_recorded_and_frees_the_slot(asking: Asking) -> None:
    body = b'{"messages":[],"stream":true,"fake":{"hang":"stream"}}'
    got = await asking.client.request("POST", "/v1/chat/completions", None, body)
    await anext(got)
    (started,) = await asking.fake.started()
    assert not started.cut and asking.fake.running == 1
    await got.aclose()
    (cut,) = await asking.fake.cut()
    assert cut is started and cut.ended_at is not None and asking.fake.running == 0


async def test_it_dies_and_comes_back_on_the_same_port(nursery: trio.Nursery) -> None:
    fake = FakeEngine()
    await nursery.start(fake.run)
    client = EngineClient(fake.url)
    assert (await client.read("GET", "/health"))[0] == 200
    fake.die()
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(EngineFailed, match="refused"):
        await client.read("GET", "/health")
    fake.revive()
    await trio.testing.wait_all_tasks_blocked()
    assert (await client.read("GET", "/health"))[0] == 200
    client.close()

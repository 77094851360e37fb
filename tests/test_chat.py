"""Asking from Python: how a question becomes a job, and what becomes of every kind of answer."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode import chat
from meshnode.chat import ChatStream, Reply
from meshnode.errors import BadRequest, ContextExceeded, EngineFailed, PeerFailed, RequestError
from meshnode.model.ids import NodeId

ME = NodeId(bytes(32))
ROUTE = {"x-meshnode-node": "alpha", "x-meshnode-path": "me > alpha"}
STREAM = {"content-type": "text/event-stream", **ROUTE}


class Given:
    """An answer of these pieces, ended by `error` where there is one."""

    def __init__(
        self, *pieces: bytes, status: int = 200, headers: Mapping[str, str] = STREAM, error: RequestError | None = None
    ) -> None:
        self.status = status
        self.headers = headers
        self.trailers: dict[str, str] = {}
        self.closed = 0
        self._pieces = list(pieces)
        self._error = error

    def __aiter__(self) -> Given:
        return self

    async def __anext__(self) -> bytes:
        if self._pieces:
            return self._pieces.pop(0)
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed += 1


def event(**fields: object) -> bytes:
    return b"data: " + msgspec.json.encode(fields) + b"\n\n"


def delta(text: str | None, finish: str | None = None) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": finish}])


def stream_of(answer: Given) -> ChatStream:
    async def ask() -> Given:
        return answer

    return ChatStream(ask)


class TestAsking:
    def test_a_text_is_a_users_message(self) -> None:
        body = msgspec.json.decode(chat.body("m", "hello", stream=True, options={"max_tokens": 3}))
        assert body == {
            "model": "m",
            "messages": [{"role": "user", "content": "hello"}],
            "stream": True,
            "max_tokens": 3,
        }

    def test_messages_go_as_they_are(self) -> None:
        messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
        assert msgspec.json.decode(chat.body("m", messages, stream=False, options={}))["messages"] == messages

    async def test_the_job_is_this_nodes_own(self) -> None:
        made = chat.job(ME, chat.body("m", "hello", stream=True, options={}), timeout_s=5)
        other = chat.job(ME, chat.body("m", "hello", stream=True, options={}), timeout_s=5)
        assert made.origin == ME
        assert made.facts.model == "m"
        assert made.facts.stream
        assert made.id != other.id

    async def test_what_cannot_be_asked_is_refused_before_anybody_is_asked(self) -> None:
        with pytest.raises(BadRequest):
            chat.job(ME, chat.body("", "hello", stream=False, options={}), timeout_s=5)


class TestWhole:
    BODY = msgspec.json.encode(
        {
            "choices": [{"message": {"role": "assistant", "content": "four"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 1, "details": {"cached": 2}},
        }
    )

    async def test_a_reply_has_text_usage_and_route(self) -> None:
        answer = Given(self.BODY[:20], self.BODY[20:], headers={"content-type": "application/json", **ROUTE})
        assert await chat.whole(answer) == Reply(
            "four", {"prompt_tokens": 3, "completion_tokens": 1}, {"node": "alpha", "path": "me > alpha"}, "stop"
        )
        assert answer.closed == 1

    async def test_no_text_is_an_empty_text(self) -> None:
        body = msgspec.json.encode({"choices": [{"message": {"content": None}, "finish_reason": "tool_calls"}]})
        assert await chat.whole(Given(body)) == Reply("", {}, {"node": "alpha", "path": "me > alpha"}, "tool_calls")

    async def test_an_engines_refusal_is_raised(self) -> None:
        body = msgspec.json.encode({"error": {"message": "too long", "code": "context_length_exceeded"}})
        answer = Given(body, status=400)
        with pytest.raises(ContextExceeded, match="too long"):
            await chat.whole(answer)
        assert answer.closed == 1

    @pytest.mark.parametrize("body", [b"", b"hello", b"[]", b'{"choices": []}', b'{"choices": 4}', b"\xff"])
    async def test_nonsense_is_the_engines_failure(self, body: bytes) -> None:
        with pytest.raises(EngineFailed):
            await chat.whole(Given(body))

    async def test_a_cut_answer_is_its_own_error(self) -> None:
        answer = Given(self.BODY[:20], error=PeerFailed("alpha was lost"))
        with pytest.raises(PeerFailed):
            await chat.whole(answer)
        assert answer.closed == 1


class TestStream:
    WHOLE = delta(None) + b": keepalive\n\n" + delta("a") + delta("Zürich ") + delta("😀", "stop")
    WHOLE += event(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 3}) + b"data: [DONE]\n\n"

    @settings(deadline=None, max_examples=50)
    @given(cuts=st.lists(st.integers(0, len(WHOLE))), crlf=st.booleans())
    async def test_texts_come_whole_however_the_bytes_are_cut(self, cuts: list[int], crlf: bool) -> None:
        data = self.WHOLE.replace(b"\n", b"\r\n") if crlf else self.WHOLE
        edges = [0, *sorted(cuts), len(data)]
        pieces = [data[begin:end] for begin, end in pairwise(edges) if begin < end]
        answer = Given(*pieces)
        async with stream_of(answer) as chunks:
            assert [text async for text in chunks] == ["a", "Zürich ", "😀"]
        assert chunks.usage == {"prompt_tokens": 3, "completion_tokens": 3}
        assert chunks.finish_reason == "stop"
        assert answer.closed == 1

    async def test_the_route_is_known_before_the_first_text(self) -> None:
        async with stream_of(Given(self.WHOLE)) as chunks:
            assert chunks.route["node"] == "alpha"

    async def test_leaving_early_closes_the_answer(self) -> None:
        answer = Given(delta("a"), delta("b"))
        async with stream_of(answer) as chunks:
            assert await anext(chunks) == "a"
        assert answer.closed == 1

    async def test_an_error_in_the_stream_is_raised_after_the_text_before_it(self) -> None:
        answer = Given(delta("a") + event(error={"message": "out of memory", "code": "engine_failed"}))
        texts = []
        with pytest.raises(EngineFailed, match="out of memory"):
            async with stream_of(answer) as chunks:
                async for text in chunks:
                    texts.append(text)
        assert texts == ["a"]
        assert answer.closed == 1

    async def test_a_stream_that_is_cut_is_its_own_error(self) -> None:
        texts = []
        with pytest.raises(PeerFailed):
            async with stream_of(Given(delta("a"), error=PeerFailed("alpha was lost"))) as chunks:
                async for text in chunks:
                    texts.append(text)
        assert texts == ["a"]

    async def test_a_refusal_is_raised_on_entering(self) -> None:
        answer = Given(b'{"error": {"message": "no"}}', status=400, headers={})
        with pytest.raises(BadRequest):
            await stream_of(answer).__aenter__()
        assert answer.closed == 1

    async def test_an_error_keeps_its_kind(self) -> None:
        answer = Given(delta("a"), event(error={"message": "too long", "code": "context_length_exceeded"}))
        with pytest.raises(ContextExceeded):
            async with stream_of(answer) as chunks:
                assert [text async for text in chunks] == []

    async def test_garbage_is_the_engines_failure(self) -> None:
        with pytest.raises(EngineFailed):
            async with stream_of(Given(b"data: {not json}\n\n")) as chunks:
                await anext(chunks)

    async def test_it_is_read_inside_its_block_only(self) -> None:
        with pytest.raises(RuntimeError):
            await anext(stream_of(Given()))


async def test_an_event_without_end_fills_no_memory() -> None:
    async with stream_of(Given(*[b"x" * 100_000] * 1000)) as chunks:
        with pytest.raises(EngineFailed, match="event of more than"):
            await anext(chunks)
        assert len(chunks._buffer) < 2 * chat.EVENT_BYTES

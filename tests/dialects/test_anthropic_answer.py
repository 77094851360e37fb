"""Anthropic's answers as OpenAI's own SDK reads them, over any cut of the bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from meshnode.dialects.anthropic_answer import DONE, EVENT_BYTES, Translation, whole
from meshnode.dialects.sse import Usage
from meshnode.errors import EngineFailed

START = {
    "type": "message_start",
    "message": {"id": "msg_1", "usage": {"input_tokens": 5, "cache_read_input_tokens": 3, "output_tokens": 1}},
}
TEXT = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "grüß dich"}}
THOUGHT = {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}}
TOOL = {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t1", "name": "weather"}}
INPUT = {
    "type": "content_block_delta",
    "index": 1,
    "delta": {"type": "input_json_delta", "partial_json": '{"at": "home"}'},
}
LAST = {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 42}}
STOP = {"type": "message_stop"}
PING = {"type": "ping"}


def stream(*events: dict[str, Any]) -> bytes:
    return b"".join(b"event: %s\ndata: %s\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in events)


WHOLE = stream(START, PING, THOUGHT, TEXT, TOOL, INPUT, LAST, STOP)


def translated(*pieces: bytes, shows_usage: bool = False) -> tuple[bytes, Translation]:
    translation = Translation("m", 9, shows_usage=shows_usage)
    return b"".join(translation.receive(piece) for piece in pieces), translation


def chunks(events: bytes) -> list[ChatCompletionChunk]:
    *data, done, end = events.split(b"\n\n")
    assert (done, end) == (b"data: [DONE]", b"")
    return [ChatCompletionChunk.model_validate_json(line.removeprefix(b"data: "), strict=True) for line in data]


def test_a_stream_reads_as_openais() -> None:
    events, translation = translated(WHOLE)
    translation.end()
    found = chunks(events)
    deltas = [chunk.choices[0].delta for chunk in found]
    assert [chunk.id for chunk in found] == ["msg_1"] * 6
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == "grüß dich"
    assert deltas[1].model_extra == {"reasoning_content": "hm"}
    calls = [call for delta in deltas for call in delta.tool_calls or ()]
    assert (calls[0].index, calls[0].id, calls[0].function and calls[0].function.name) == (0, "t1", "weather")
    assert "".join(call.function.arguments or "" for call in calls if call.function) == '{"at": "home"}'
    assert [chunk.choices[0].finish_reason for chunk in found][-1] == "tool_calls"
    assert translation.usage == Usage(8, 42)


def test_usage_is_shown_to_those_who_asked() -> None:
    events, _ = translated(WHOLE, shows_usage=True)
    last = chunks(events)[-1]
    assert last.choices == [] and last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens, last.usage.total_tokens) == (8, 42, 50)


@settings(max_examples=60)
@given(st.lists(st.integers(1, 90), max_size=40), st.booleans())
def test_the_cut_of_the_bytes_does_not_matter(sizes: list[int], carriage: bool) -> None:
    data = WHOLE.replace(b"\n", b"\r\n") if carriage else WHOLE
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    assert translated(*pieces, data)[0] == translated(WHOLE)[0]


def test_a_stream_that_is_cut_is_a_failure() -> None:
    _, translation = translated(stream(START, TEXT))
    with pytest.raises(EngineFailed, match="before it said it was done"):
        translation.end()


def test_an_error_before_the_message_is_raised_and_one_within_it_is_said() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    with pytest.raises(EngineFailed, match="Overloaded"):
        translated(stream(error))
    events, translation = translated(stream(START, TEXT, error, TEXT))
    assert events.endswith(DONE) and events.count(b"gr") == 1
    said = json.loads(events.split(b"\n\n")[-3].removeprefix(b"data: "))
    assert said["error"]["message"] == "Overloaded"
    translation.end()


@pytest.mark.parametrize(
    "data", [b"data: {\n\n", b"data: []\n\n", b"data: " + b"[" * 9999 + b"\n\n", b"x" * (EVENT_BYTES + 1)]
)
def test_what_is_no_stream_is_refused(data: bytes) -> None:
    with pytest.raises(EngineFailed):
        translated(data)


def message(**members: Any) -> bytes:
    said = {"type": "message", "id": "msg_1", "content": [], "stop_reason": "end_turn", "usage": {}, **members}
    return json.dumps(said).encode()


def test_a_whole_message_reads_as_openais() -> None:
    blocks = [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b"},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}},
    ]
    body, usage = whole(
        message(content=blocks, stop_reason="tool_use", usage={"input_tokens": 4, "output_tokens": 6}), "m", 9
    )
    found = ChatCompletion.model_validate_json(body, strict=True)
    assert found.choices[0].message.content == "ab"
    assert found.choices[0].finish_reason == "tool_calls"
    assert [json.loads(call.function.arguments) for call in found.choices[0].message.tool_calls or ()] == [{"x": 1}]  # type: ignore[union-attr]
    assert usage == Usage(4, 6)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("end_turn", "stop"), ("stop_sequence", "stop"), ("max_tokens", "length"), ("refusal", "content_filter")],
)
def test_why_it_ended(reason: str, expected: str) -> None:
    assert json.loads(whole(message(stop_reason=reason), "m", 9)[0])["choices"][0]["finish_reason"] == expected


@pytest.mark.parametrize("body", [b"", b"[]", b'{"type": "error"}', b'{"type": "message"}'])
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(EngineFailed):
        whole(body, "m", 9)


@given(st.binary(max_size=300))
def test_any_bytes_end_in_an_answer_or_an_error(data: bytes) -> None:
    try:
        translated(data)[1].end()
    except EngineFailed:
        return
    pytest.fail("no message, and no error")

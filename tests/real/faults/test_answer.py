"""Reading strictly: an end is seen once, and whatever is no UTF-8, no JSON or behind an end is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.real.faults.answer import Answer

ERROR = {"error": {"message": "broke", "type": "server_error", "param": None, "code": "peer_failed"}}


def event(text: str = "", finish: str | None = None) -> bytes:
    return sse({"choices": [{"delta": {"content": text}, "finish_reason": finish}]})


def sse(document: Any) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
STREAM = b": keepalive\n\n" + event("r1.0 ") + event("r1.1 ü ") + event(finish="stop") + DONE


def streamed(*parts: bytes) -> Answer:
    answer = Answer(200, streamed=True)
    for part in parts:
        answer.feed(part)
    answer.close()
    return answer


@given(st.integers(0, len(STREAM)), st.integers(0, len(STREAM)))
def test_a_stream_reads_alike_however_it_is_cut(one: int, two: int) -> None:
    first, second = sorted((one, two))
    answer = streamed(STREAM[:first], STREAM[first:second], STREAM[second:])
    assert (answer.text, answer.whole, answer.wrong) == ("r1.0 r1.1 ü ", True, [])


def test_an_error_in_a_stream_is_an_end_that_is_no_answer() -> None:
    answer = streamed(event("a"), sse(ERROR), DONE)
    assert (answer.error, answer.ends, answer.whole, answer.wrong) == ("peer_failed", 1, False, [])


@pytest.mark.parametrize(
    "data",
    [
        event("a")[:30] + b"\n\n" + DONE,
        event("a").replace(b"a", b"\xff", 1) + DONE,
        event("\ud800").replace(b"\\ud800", b"\xed\xa0\x80") + DONE,
        b"data: 7\n\n" + DONE,
        DONE + event("late"),
        sse(ERROR) + event("late") + DONE,
        sse(ERROR) + sse(ERROR) + DONE,
        sse({"error": "a bare word"}) + DONE,
        event("half")[:-20],
    ],
)
def test_what_is_spoilt_is_told(data: bytes) -> None:
    assert streamed(data).wrong


@pytest.mark.parametrize("data", [b"", event("a"), event("a") + event(finish="stop")])
def test_a_stream_without_its_end_is_not_whole(data: bytes) -> None:
    answer = streamed(data)
    assert (answer.whole, answer.ends, answer.wrong) == (False, 0, [])


def whole(status: int, body: bytes) -> Answer:
    answer = Answer(status)
    answer.feed(body)
    answer.close()
    return answer


def test_a_whole_answer_and_an_error_are_one_end_each() -> None:
    body = {"choices": [{"message": {"content": "hi"}, "finish_reason": "length"}]}
    answer = whole(200, json.dumps(body).encode())
    assert (answer.text, answer.whole, answer.ends) == ("hi", True, 1)
    failed = whole(502, json.dumps(ERROR).encode())
    assert (failed.error, failed.whole, failed.ends, failed.wrong) == ("peer_failed", False, 1, [])


@pytest.mark.parametrize(
    ("status", "body"), [(200, b'{"choices":['), (200, b"{}"), (200, b"\xff"), (502, b"Bad Gateway"), (502, b"{}")]
)
def test_a_whole_answer_of_a_wrong_form_is_told(status: int, body: bytes) -> None:
    answer = whole(status, body)
    assert answer.wrong and not answer.whole

"""The rest of a completion is asked for with the text so far, never twice a token, and only where that is sound."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.dialects import CHAT, COMPLETION
from meshnode.dialects.continuation import Continuation, continuable

ASKED = {"model": "m", "prompt": "Once", "stream": True, "max_tokens": 10}


def event(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "text": text, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "c", "choices": [choice]}, ensure_ascii=False).encode() + b"\n\n"


def begun(**more: object) -> Continuation:
    talk = continuable(COMPLETION, json.dumps({**ASKED, **more}).encode())
    assert talk is not None
    return talk


@given(st.lists(st.text(min_size=1, max_size=8), max_size=8), st.data())
def test_cut_anywhere_the_rest_follows_what_was_delivered(texts: list[str], data: st.DataObject) -> None:
    stream = b"".join(map(event, texts))
    cut = data.draw(st.integers(0, len(stream)))
    where = data.draw(st.integers(0, cut))
    talk = begun(max_tokens=100)
    delivered = talk.feed(stream[:where]) + talk.feed(stream[where:cut])
    whole = [text for number, text in enumerate(texts) if len(b"".join(map(event, texts[: number + 1]))) <= cut]
    assert delivered == b"".join(map(event, whole))
    body = talk.body()
    assert body is not None
    asked = json.loads(body)
    assert asked["prompt"] == "Once" + "".join(whole)
    assert asked["max_tokens"] == 100 - len(whole)


def test_it_can_be_continued_twice() -> None:
    talk = begun()
    talk.feed(event(" upon"))
    assert talk.body() is not None
    talk.again()
    talk.feed(event(" a") + event(" time"))
    body = talk.body()
    assert body is not None
    assert json.loads(body) == {"model": "m", "prompt": "Once upon a time", "stream": True, "max_tokens": 7}


@pytest.mark.parametrize(
    "last", [event("", "stop"), event("x", "length"), b"data: [DONE]\n\n", b'data: {"error":{}}\n\n', b"data: x\n\n"]
)
def test_what_has_ended_or_cannot_be_read_is_not_continued(last: bytes) -> None:
    talk = begun()
    talk.feed(event("a") + last)
    assert talk.body() is None


def test_a_spent_budget_is_not_continued() -> None:
    talk = begun(max_tokens=1)
    talk.feed(event("a"))
    assert talk.body() is None


@pytest.mark.parametrize(
    "more",
    [
        {"n": 2},
        {"logprobs": 1},
        {"grammar": "root ::= x"},
        {"tools": []},
        {"echo": True},
        {"prompt": ["a", "b"]},
        {"stream": False},
        {"repetition_penalty": 1.1},
    ],
    ids=str,
)
def test_whatever_may_depend_on_how_the_text_came_about_is_not_continued(more: dict[str, object]) -> None:
    assert continuable(COMPLETION, json.dumps({**ASKED, **more}).encode()) is None


def test_chats_and_noise_are_not_continued() -> None:
    assert continuable(CHAT, json.dumps(ASKED).encode()) is None
    assert continuable(COMPLETION, b"[" * 100_000) is None

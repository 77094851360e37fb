"""Request bodies: the facts of what is accepted are those that an engine would read from the same bytes."""

from __future__ import annotations

import json
from typing import Any

from meshnode.dialects import CHAT, COMPLETION, EMBEDDINGS, read_facts, rewrite_model
from meshnode.errors import BadRequest
from meshnode.model.job import Facts
from tests.fuzz.kit import Draw, mutate, refused

ROUTES = (CHAT, COMPLETION, EMBEDDINGS)
TEXTS = ("hi", "", "\u4e16\u754c", "x" * 300, "\ud83d\ude00", 'a"b\\', "user_1_session_2")


def one_input(data: bytes) -> None:
    draw = Draw(data)
    route = ROUTES[draw.number(3)]
    headers = {"session-id": "s", "x-session-id": "t"} if draw.flag() else {}
    body = draw.rest() if draw.flag() else mutate(_body(route, draw), draw)
    try:
        facts = read_facts(route, body, headers)
    except BadRequest:
        return
    assert facts.prompt_tokens >= 0 and facts.max_tokens >= 0
    assert facts.prompt_tokens <= 8 + 1100 * len(body), "an estimate beyond all bounds"
    assert facts.session is None or len(facts.session) <= 200
    _same_for_an_engine(body, facts.model)
    _same_but_for_its_name(route, body, headers, facts)


def _same_but_for_its_name(route: str, body: bytes, headers: dict[str, str], facts: Facts) -> None:
    try:
        renamed = rewrite_model(body, "another")
    except BadRequest:
        # The name of a member that routing does not look at.
        assert refused(body.decode, UnicodeDecodeError)
        return
    again = read_facts(route, renamed, headers)
    assert again.model == "another"
    assert (again.stream, again.max_tokens, again.needs) == (facts.stream, facts.max_tokens, facts.needs)


def _same_for_an_engine(body: bytes, model: str) -> None:
    """Where json reads the body at all, it reads the same model."""
    try:
        read = json.loads(body)
    except (ValueError, RecursionError):
        return
    assert read["model"] == model, "another model than an engine would see"


def _body(route: str, draw: Draw) -> bytes:
    text = TEXTS[draw.number(len(TEXTS))]
    said: dict[str, Any] = {"model": text or "m", "stream": draw.flag(), "max_tokens": draw.number(5000)}
    if route == CHAT:
        parts = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": "data:,x"}}]
        said["messages"] = [{"role": "user", "content": parts if draw.flag() else text}] * (1 + draw.number(3))
        said["tools"] = [{"type": "function", "function": {"name": "f"}}] * draw.number(3)
    else:
        said["prompt" if route == COMPLETION else "input"] = [text, [1, 2, 3], text][: draw.number(4)] or text
    if draw.flag():
        said |= {"metadata": {"user_id": '{"session_id": "x"}'}, "conversation": {"id": text}}
    return json.dumps(said).encode()


def seeds() -> dict[str, bytes]:
    """A body of each route, and what has broken JSON readers."""
    return {
        "chat": b"\x00\x01\x00" + b"\x00\x01\x00\x10\x01\x01\x01\x01",
        "completion": b"\x01\x00\x00" + b"\x02\x00\x00\x10\x02\x01",
        "embeddings": b"\x02\x00\x00" + b"\x03\x00\x00\x10\x03\x00",
        "deep": b"\x00\x00\x01" + b'{"model":"m","messages":' + b"[" * 200,
        "twice": b"\x00\x00\x01" + b'{"model":"a","model":"b","messages":[{"role":"user","content":"x"}]}',
        "escaped-name": b"\x00\x00\x01" + b'{"mod\\u0065l":"b","messages":[{"role":"user","content":"\\ud800"}]}',
        "huge-number": b"\x00\x00\x01" + b'{"model":"m","max_tokens":1e999,"messages":[{"role":"user"}]}',
        "not-utf8": b"\x01\x00\x01" + b'{"model":"\xff","prompt":"\xc0\x80"}',
    }

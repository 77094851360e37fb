"""Only whole events that a client can read pass, whatever the cut of their bytes; a body only whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.dialects import SoundStream, Usage, event_error, judge_of
from meshnode.dialects.sound import JUDGED_BYTES, PRELUDE_BYTES
from meshnode.errors import DecodeError, EngineFailed
from tests.dialects.test_sse import DELTA, DONE, LAST, ROLE, USAGE, cut, cuts

SPOILT = [
    b'data: {"choices":[{"index":0,"delta":{"content":"a"}}\n\n',
    b'data: {"choices":[{"index":0,"delta":{"content":"\xff"}}]}\n\n',
    b'data: {"choices":[{"index":0,"delta":{"content":tru}}]}\n\n',
    b'data: {"choices":[]}}\n\n',
    b"data: 5\n\n",
    b"data: \xe2\x82\n\n",
    b": a comment \xff\n\n",
    b'data: {"a":"\n\ndata: b"}\n\n',
    b'data: {"a":NaN}\n\n',
    b'data: {"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n\n",
]
QUIET = b'data: {"choices":[],"prompt_filter_results":[{}]}\n\n'
ERROR = event_error(EngineFailed("died"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
HEADERS = {"content-type": "application/json"}


def told(*chunks: bytes) -> SoundStream:
    stream = SoundStream()
    for chunk in chunks:
        stream.feed(chunk)
    stream.rest()
    return stream


class TestStream:
    @given(cuts, st.booleans())
    @settings(deadline=None, max_examples=300)
    def test_a_sound_stream_passes_untouched(self, sizes: list[int], crlf: bool) -> None:
        whole = b": keepalive\n\n" + ROLE + DELTA * 10 + 'data: {"a":"\U0001f600"}\n\n'.encode() + LAST + USAGE + DONE
        if crlf:
            whole = whole.replace(b"\n\n", b"\r\n\r\n")
        stream = SoundStream()
        passed = [stream.feed(piece) for piece in cut(whole, sizes)]
        assert b"".join(passed) + stream.rest() == whole
        assert all(not piece or piece.endswith((b"\n\n", b"\n\r\n")) for piece in passed)
        assert (stream.events, stream.finished, stream.end().failed) == (14, True, False)
        assert stream.end().usage == Usage(5, 7)

    @given(cuts, st.sampled_from(SPOILT), st.booleans())
    @settings(deadline=None, max_examples=300)
    def test_what_is_spoilt_never_passes(self, sizes: list[int], bad: bytes, crlf: bool) -> None:
        whole = DELTA * 3 + bad + DELTA + DONE
        stream, passed = SoundStream(), b""
        with pytest.raises(DecodeError):
            for piece in cut(whole.replace(b"\n\n", b"\r\n\r\n") if crlf else whole, sizes):
                passed += stream.feed(piece)
        assert (DELTA * 3).startswith(passed.replace(b"\r\n", b"\n"))

    @given(VALUES, st.booleans())
    @settings(deadline=None, max_examples=200)
    def test_it_judges_as_the_standard_library_does(self, value: Any, as_ascii: bool) -> None:
        event = json.dumps({"choices": value}, ensure_ascii=as_ascii).encode("utf-8", "surrogatepass")
        try:
            json.loads(event.decode(), parse_constant=lambda _: 1 / 0)
        except (ValueError, ZeroDivisionError):
            with pytest.raises(DecodeError):
                SoundStream().feed(b"data: " + event + b"\n\n")
        else:
            SoundStream().feed(b"data: " + event + b"\n\n")

    @pytest.mark.parametrize(
        "odd",
        [
            b'data:{"a":1}\n\n',
            b'event: message\nid: 5\ndata: {"a":1}\n\n',
            b'data: {"a":\ndata: 1}\n\n',
            b'data: {"half of an emoji":"\\ud83d"}\n\n',
            b"retry: 5\n\n\n\n",
        ],
    )
    def test_what_clients_read_is_sound(self, odd: bytes) -> None:
        stream = SoundStream()
        assert stream.feed(DELTA + odd) == DELTA + odd

    @pytest.mark.parametrize(
        "prelude",
        [
            ROLE,
            b": thinking\n\n",
            b'data: {"choices":[],"prompt_filter_results":[{}]}\n\n',
            ROLE.replace(b"null", b'""', 1),
        ],
    )
    def test_what_says_nothing_waits_for_what_does(self, prelude: bytes) -> None:
        stream = SoundStream()
        assert stream.feed(prelude) == stream.feed(prelude) == b""
        assert stream.feed(DELTA) == prelude + prelude + DELTA
        assert stream.feed(prelude) == prelude

    @pytest.mark.parametrize("said", [DELTA, LAST, USAGE, DONE, ERROR, b'data: {"a":1}\n\n'])
    def test_whatever_else_says_something(self, said: bytes) -> None:
        assert SoundStream().feed(said) == said

    def test_a_tool_call_and_a_thought_say_something(self) -> None:
        for key in ("tool_calls", "reasoning_content"):
            said = b'data: {"choices":[{"delta":{"role":"assistant","content":null,"%s":[1]}}]}\n\n' % key.encode()
            assert SoundStream().feed(said) == said

    def test_nobody_says_nothing_for_ever(self) -> None:
        stream, passed = SoundStream(), b""
        for _ in range(PRELUDE_BYTES // len(ROLE) + 1):
            passed += stream.feed(ROLE)
        assert len(passed) > PRELUDE_BYTES

    @pytest.mark.parametrize("ending", [LAST, DONE, LAST + USAGE, DONE.rstrip()])
    def test_a_stream_that_says_so_is_finished(self, ending: bytes) -> None:
        assert told(DELTA, ending).finished

    @pytest.mark.parametrize("ending", [b"", USAGE])
    def test_a_stream_that_does_not_was_cut(self, ending: bytes) -> None:
        assert not told(DELTA, ending).finished

    @pytest.mark.parametrize("ending", [DONE[:8], LAST[:40]])
    def test_a_stream_that_ends_within_an_event_is_spoilt(self, ending: bytes) -> None:
        with pytest.raises(DecodeError):
            told(DELTA, ending)

    def test_an_error_event_is_no_proper_end(self) -> None:
        end = told(DELTA, event_error(EngineFailed("died"))).end()
        assert end.failed
        assert not end.finished

    def test_only_the_tail_is_kept(self) -> None:
        stream = told(*[DELTA] * 10_000, *[DELTA * 1000] * 9)
        assert sum(map(len, stream._tail)) < 50_000
        assert stream.events == 19_000

    def test_an_event_without_end_is_spoilt(self) -> None:
        stream = SoundStream()
        with pytest.raises(DecodeError):
            for _ in range(JUDGED_BYTES // 65_536 + 1):
                stream.feed(b"x" * 65_536)

    @given(st.lists(st.binary(max_size=80)))
    @settings(deadline=None, max_examples=100)
    def test_nonsense_raises_nothing_else(self, chunks: list[bytes]) -> None:
        try:
            told(*chunks).end()
        except DecodeError:
            return


class TestBody:
    @given(cuts)
    @settings(deadline=None)
    def test_a_sound_body_comes_whole(self, sizes: list[int]) -> None:
        judge, whole = judge_of(200, HEADERS), json.dumps({"a": "\u20ac" * 300}, ensure_ascii=False).encode()
        assert not any(judge.feed(piece) for piece in cut(whole, sizes))
        assert judge.rest() == whole

    @pytest.mark.parametrize("body", [b'{"a":', b'{"a":"\xff"}', b"\xff", b"<html>", b'{"a":1}{', b" ", b""])
    def test_a_spoilt_body_never_comes(self, body: bytes) -> None:
        judge = judge_of(200, HEADERS)
        assert judge.feed(body) == b""
        with pytest.raises(DecodeError):
            judge.rest()

    @pytest.mark.parametrize("body", [b"[]", b'"x"', b'{"a":"\\ud83d"}', b" {} "])
    def test_any_json_is_sound(self, body: bytes) -> None:
        judge = judge_of(200, {})
        judge.feed(body)
        assert judge.rest() == body

    def test_what_is_too_large_passes_as_it_comes(self) -> None:
        judge, piece = judge_of(200, HEADERS), b"[" + b"1," * 32_767 + b"1"
        passed = [judge.feed(piece) for _ in range(JUDGED_BYTES // 65_536 + 2)]
        assert [len(one) for one in passed if one] == [JUDGED_BYTES + 65_536, 65_536]
        assert judge.feed(b"] \n") == b"] \n" and judge.feed(b"\n") == b"\n" and judge.rest() == b""

    @pytest.mark.parametrize("end", [b"", b'"a":', b'"\xe2\x82', b"}x"])
    def test_what_is_too_large_is_not_taken_for_whole_where_it_was_cut(self, end: bytes) -> None:
        judge = judge_of(200, HEADERS)
        assert judge.feed(b' {"a":"' + b"x" * JUDGED_BYTES + end)
        with pytest.raises(DecodeError):
            judge.rest()

    @pytest.mark.parametrize("body", [b"<html>", b'{"a":"\xff'])
    def test_of_what_is_too_large_and_spoilt_nothing_passes(self, body: bytes) -> None:
        with pytest.raises(DecodeError):
            judge_of(200, HEADERS).feed(body + b"x" * JUDGED_BYTES)

    def test_letters_that_are_cut_between_pieces_are_no_fault(self) -> None:
        judge = judge_of(200, HEADERS)
        for piece in (b'"' + b"x" * JUDGED_BYTES + b"\xe2", b"\x82", b'\xac"'):
            assert judge.feed(piece) == piece
        assert judge.rest() == b""

    def test_errors_are_not_judged(self) -> None:
        judge = judge_of(400, HEADERS)
        assert judge.feed(b"\xff") == b"\xff" and judge.rest() == b"" and judge.finished

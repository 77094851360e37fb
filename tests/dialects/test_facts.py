"""Facts are what routing needs, read from whatever clients send."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.dialects import CHAT, COMPLETION, EMBEDDINGS, read_facts, rewrite_model
from meshnode.errors import BadRequest

USER = [{"role": "user", "content": "hi"}]

PROSE = (
    "The old lighthouse keeper walked along the shore every morning before the sun had risen, and he counted the "
    "boats that came back from the night's fishing. Most days there were eleven of them, but on some days one was "
    "missing, and then he would wait until the afternoon and light the lamp early. "
)
PROSE_TOKENS = 61
"""As SmolLM2's tokenizer counts it."""


def chat(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": USER, **fields}).encode()


class TestChat:
    def test_reads_model_and_stream_options(self) -> None:
        body = chat(stream=True, stream_options={"include_usage": True}, max_tokens=7, anything={"else": [1]})
        facts = read_facts(CHAT, body, {})
        assert (facts.model, facts.stream, facts.include_usage, facts.max_tokens) == ("m", True, True, 7)
        assert facts.needs == {"chat"}

    def test_the_newer_name_of_the_limit_wins(self) -> None:
        assert read_facts(CHAT, chat(max_tokens=7, max_completion_tokens=9), {}).max_tokens == 9

    @pytest.mark.parametrize("limit", [None, -1, 0])
    def test_no_limit_is_zero(self, limit: int | None) -> None:
        assert read_facts(CHAT, chat(max_tokens=limit), {}).max_tokens == 0

    def test_tools_and_pictures_are_needs(self) -> None:
        picture = [
            {"type": "text", "text": "see"},
            {"type": "image_url", "image_url": {"url": "data:," + "A" * 90_000}},
        ]
        body = chat(messages=[{"role": "user", "content": picture}], tools=[{"type": "function"}])
        facts = read_facts(CHAT, body, {})
        assert facts.needs == {"chat", "tools", "vision"}
        assert 1000 < facts.prompt_tokens < 1200

    @pytest.mark.parametrize("nothing", [None, []])
    def test_an_empty_list_of_tools_is_no_need(self, nothing: Any) -> None:
        assert read_facts(CHAT, chat(tools=nothing), {}).needs == {"chat"}

    @pytest.mark.parametrize(
        ("body", "param"),
        [
            (b'{"messages":[]}', "messages"),
            (b'{"messages":[{"role":"user"}]}', "model"),
            (b'{"model":"m"}', "messages"),
            (b'{"model":"","messages":[{"role":"user"}]}', "model"),
            (b'{"model":3,"messages":[{"role":"user"}]}', "model"),
            (b'{"model":"m","messages":"hi"}', "messages"),
            (b'{"model":"m","messages":[{"role":1}]}', "messages[0].role"),
            (b'{"model":"m","messages":[{"content":"x"}]}', "messages[0].role"),
            (b'{"model":"m","messages":[{"role":"user"}],"stream":"yes"}', "stream"),
            (b'{"model":"m","messages":[{"role":"user"}],"max_tokens":"9"}', "max_tokens"),
            (b"[]", None),
            (b"", None),
            (b"{", None),
            (b"\xff\xfe{}", None),
            (b'{"model":"m","messages":[{"role":"user"}],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", None),
        ],
    )
    def test_says_which_field_is_wrong(self, body: bytes, param: str | None) -> None:
        with pytest.raises(BadRequest) as caught:
            read_facts(CHAT, body, {})
        assert caught.value.param == param
        assert caught.value.message

    @given(st.binary(max_size=300) | st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists).map(
        lambda value: json.dumps({"model": "m", "messages": value}).encode()
    ))  # fmt: skip
    @settings(deadline=None, max_examples=200)
    def test_any_bytes_are_read_or_refused(self, body: bytes) -> None:
        with contextlib.suppress(BadRequest):
            assert read_facts(CHAT, body, {}).needs >= {"chat"}


class TestEstimate:
    def test_english_is_over_estimated_by_at_most_thirty_per_cent(self) -> None:
        facts = read_facts(CHAT, chat(messages=[{"role": "user", "content": PROSE * 50}]), {})
        assert PROSE_TOKENS * 50 <= facts.prompt_tokens <= PROSE_TOKENS * 50 * 1.3

    def test_chinese_counts_about_one_token_a_character(self) -> None:
        facts = read_facts(CHAT, chat(messages=[{"role": "user", "content": "今天天气很好" * 100}]), {})
        assert 550 <= facts.prompt_tokens <= 700

    def test_of_several_prompts_the_longest_counts(self) -> None:
        body = json.dumps({"model": "m", "input": ["a" * 400, "a" * 40, [1, 2, 3]]}).encode()
        assert read_facts(EMBEDDINGS, body, {}).prompt_tokens == 100

    def test_token_ids_are_counted(self) -> None:
        body = json.dumps({"model": "m", "prompt": list(range(50))}).encode()
        facts = read_facts(COMPLETION, body, {})
        assert (facts.prompt_tokens, facts.needs) == (50, {"completion"})

    @pytest.mark.parametrize(("route", "field"), [(COMPLETION, "prompt"), (EMBEDDINGS, "input")])
    def test_the_prompt_is_required(self, route: str, field: str) -> None:
        with pytest.raises(BadRequest) as caught:
            read_facts(route, b'{"model":"m"}', {})
        assert caught.value.param == field


class TestSession:
    ORDER = (
        ({"x-claude-code-session-id": "1"}, {}),
        ({}, {"metadata": {"user_id": "user_9_account_8_session_2"}}),
        ({"session-id": "3"}, {}),
        ({"thread-id": "4"}, {}),
        ({"session_id": "5"}, {}),
        ({"x-opencode-session": "6"}, {}),
        ({"x-session-affinity": "7"}, {}),
        ({"x-session-id": "8"}, {}),
        ({"x-openwebui-chat-id": "9"}, {}),
        ({}, {"prompt_cache_key": "10"}),
        ({}, {"conversation": {"id": "11"}}),
    )

    @pytest.mark.parametrize("first", range(len(ORDER)))
    def test_earlier_sources_win(self, first: int) -> None:
        headers: dict[str, str] = {}
        fields: dict[str, Any] = {}
        for more_headers, more_fields in self.ORDER[first:]:
            headers.update(more_headers)
            fields.update(more_fields)
        assert read_facts(CHAT, chat(**fields), headers).session == str(first + 1)

    def test_nobody_said(self) -> None:
        assert read_facts(CHAT, chat(metadata={"user_id": "me"}), {}).session is None

    def test_the_newer_form_of_claude_code(self) -> None:
        body = chat(metadata={"user_id": json.dumps({"device_id": "d", "session_id": "s"})})
        assert read_facts(CHAT, body, {}).session == "s"

    @pytest.mark.parametrize("metadata", [[], "x", {"user_id": 3}, {"user_id": None}])
    def test_odd_metadata_is_no_error(self, metadata: Any) -> None:
        assert read_facts(CHAT, chat(metadata=metadata), {}).session is None

    def test_is_bounded(self) -> None:
        assert len(read_facts(CHAT, chat(), {"session-id": "x" * 10_000}).session or "") == 200


class TestRewrite:
    @given(
        st.dictionaries(
            st.text(max_size=8).filter(lambda key: key != "model"),
            st.recursive(
                st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(), st.lists
            ),
            max_size=4,
        )
    )
    @settings(deadline=None, max_examples=100)
    def test_only_the_model_changes(self, members: dict[str, Any]) -> None:
        body = json.dumps({"a": {"model": "inner"}, "model": "big/m:7b@node", **members}).encode()
        assert json.loads(rewrite_model(body, "big/m:7b")) == {**json.loads(body), "model": "big/m:7b"}

    def test_other_values_keep_their_bytes(self) -> None:
        body = b'{"temperature": 0.70, "model":"m@n","messages":[ {"role" : "user","content":"\\u00e9 1e5"} ]}'
        changed = rewrite_model(body, "m")
        assert b"0.70" in changed
        assert b'[ {"role" : "user","content":"\\u00e9 1e5"} ]' in changed

    def test_refuses_what_is_not_an_object(self) -> None:
        with pytest.raises(BadRequest):
            rewrite_model(b"[1]", "m")


SECRET = b"k" * 32
SYSTEM = {"role": "system", "content": "You are terse. " * 50}


class TestConversationWithoutAName:
    def session(self, messages: list[dict[str, Any]], secret: bytes = SECRET) -> str | None:
        return read_facts(CHAT, chat(messages=messages), {}, secret).session

    def test_its_turns_meet_and_others_do_not(self) -> None:
        question = {"role": "user", "content": "Why is the sky blue?"}
        later = [{"role": "assistant", "content": "Because."}, {"role": "user", "content": "Go on"}]
        first = self.session([SYSTEM, question])
        assert first == self.session([SYSTEM, question, *later]) == self.session([question, *later])
        assert first != self.session([SYSTEM, {"role": "user", "content": "Why is grass green?"}])

    def test_only_its_beginning_counts(self) -> None:
        begun = "x" * 1024
        one, other = ([{"role": "user", "content": begun + end}] for end in ("1", "2"))
        assert self.session(one) == self.session(other)

    def test_parts_are_read_as_text_is(self) -> None:
        parts = [{"type": "text", "text": "Why?"}, {"type": "image_url", "image_url": {"url": "data:,A"}}]
        assert self.session([{"role": "user", "content": parts}]) == self.session([{"role": "user", "content": "Why?"}])

    def test_nothing_of_it_can_be_read_or_guessed(self) -> None:
        named = self.session(USER)
        assert named is not None
        assert "hi" not in named
        assert named != self.session(USER, b"another secret")
        assert self.session(USER, b"") is None

    def test_a_name_that_the_client_gives_goes_first(self) -> None:
        assert read_facts(CHAT, chat(), {"session-id": "3"}, SECRET).session == "3"

    def test_nothing_to_tell_it_by_is_no_name(self) -> None:
        assert self.session([SYSTEM]) is None
        assert self.session([{"role": "user", "content": None}]) is None

    def test_a_plain_prompt_has_a_beginning_too(self) -> None:
        bodies = [json.dumps({"model": "m", "prompt": "a" * 1024 + end}).encode() for end in ("", "b")]
        one, other = (read_facts(COMPLETION, body, {}, SECRET).session for body in bodies)
        assert one == other is not None
        several = json.dumps({"model": "m", "prompt": ["a", "b"]}).encode()
        assert read_facts(COMPLETION, several, {}, SECRET).session is None

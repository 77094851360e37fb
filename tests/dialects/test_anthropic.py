"""OpenAI's chat requests in Anthropic's words: everything is said, or refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshnode.dialects import anthropic
from meshnode.errors import BadRequest

HELLO = [{"role": "user", "content": "hello"}]


def said(**asked: Any) -> dict[str, Any]:
    body = json.dumps({"model": "m", "messages": HELLO, **asked}).encode()
    return json.loads(anthropic.request(body, "claude-x", 4096))


def test_a_plain_question() -> None:
    assert said() == {
        "model": "claude-x",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
    }


def test_the_clients_own_limit_counts_and_the_newer_spelling_wins() -> None:
    assert said(max_tokens=7)["max_tokens"] == 7
    assert said(max_tokens=7, max_completion_tokens=9)["max_tokens"] == 9


def test_system_texts_stand_apart_and_turns_of_one_role_are_one() -> None:
    found = said(
        messages=[
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": "a"},
            {"role": "user", "content": [{"type": "text", "text": "b"}]},
            {"role": "developer", "content": "be brief"},
            {"role": "assistant", "content": "c"},
        ]
    )
    assert [part["text"] for part in found["system"]] == ["be kind", "be brief"]
    assert [(turn["role"], [part["text"] for part in turn["content"]]) for turn in found["messages"]] == [
        ("user", ["a", "b"]),
        ("assistant", ["c"]),
    ]


def test_calls_of_tools_and_their_results() -> None:
    function = {"name": "weather", "description": "tells", "parameters": {"type": "object", "properties": {}}}
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"at": "home"}'}}
    found = said(
        messages=[
            *HELLO,
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "rain"},
            {"role": "tool", "tool_call_id": "c2", "content": ""},
        ],
        tools=[{"type": "function", "function": function}],
        tool_choice="required",
        parallel_tool_calls=False,
    )
    assert found["tools"] == [
        {"name": "weather", "description": "tells", "input_schema": {"type": "object", "properties": {}}}
    ]
    assert found["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
    assert found["messages"][1]["content"] == [
        {"type": "tool_use", "id": "c1", "name": "weather", "input": {"at": "home"}}
    ]
    assert found["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "rain"}]},
        {"type": "tool_result", "tool_use_id": "c2", "content": []},
    ]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", None),
        ("none", {"type": "none"}),
        ({"type": "function", "function": {"name": "f"}}, {"type": "tool", "name": "f"}),
    ],
)
def test_which_tool_may_be_chosen(choice: Any, expected: Any) -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    assert said(tools=[tool], tool_choice=choice).get("tool_choice") == expected


def test_images_by_data_and_by_address() -> None:
    urls = ["data:image/png;base64,AAAA", "https://example.org/a.png"]
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    found = said(messages=[{"role": "user", "content": parts}])["messages"][0]["content"]
    assert [part["source"] for part in found] == [
        {"type": "base64", "media_type": "image/png", "data": "AAAA"},
        {"type": "url", "url": "https://example.org/a.png"},
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2),
        ("logprobs", True),
        ("logit_bias", {"1": 2}),
        ("response_format", {"type": "json_object"}),
        ("frequency_penalty", 0.5),
        ("temperature", 1.5),
        ("functions", [{"name": "f"}]),
        ("something_new", 1),
        ("messages", [{"role": "user", "content": [{"type": "input_audio"}]}]),
        ("messages", [{"role": "critic", "content": "x"}]),
        ("messages", ["x"]),
        ("tools", [{"type": "web_search"}]),
    ],
)
def test_what_cannot_be_said_is_refused(field: str, value: Any) -> None:
    with pytest.raises(BadRequest):
        said(**{field: value})


def test_arguments_that_are_no_json_are_refused() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}
    with pytest.raises(BadRequest, match="not JSON"):
        said(messages=[*HELLO, {"role": "assistant", "tool_calls": [call]}])


def test_fields_that_mean_nothing_pass_and_the_users_name_stays_home() -> None:
    found = said(n=1, logprobs=None, frequency_penalty=0, user="alice", seed=3, metadata={"user_id": "alice"})
    assert "alice" not in json.dumps(found)


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"[" * 5000])
def test_a_body_that_is_no_request(body: bytes) -> None:
    with pytest.raises(BadRequest):
        anthropic.request(body, "m", 1)

"""An OpenAI chat request as Anthropic's Messages API says it. Pure.

What cannot be said there is refused by name, never dropped in silence; what is only a hint, or names the user to a
stranger, is left out. Not for sending (engine.cloud). Counterpart: anthropic_answer.py, the way back.
Source: the public reference of `POST /v1/messages`, version 2023-06-01.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from meshnode.errors import BadRequest

MESSAGES: Final = "/v1/messages"
VERSION: Final = "2023-06-01"

_SAID = {"model", "messages", "stream", "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop", "tools",
         "tool_choice", "parallel_tool_calls", "response_format", "n", "frequency_penalty", "presence_penalty",
         "logprobs", "logit_bias"}  # fmt: skip

_LEFT_OUT = {"stream_options", "user", "safety_identifier", "metadata", "store", "seed", "service_tier",
             "prompt_cache_key", "prompt_cache_retention", "reasoning_effort", "verbosity"}  # fmt: skip
"""Hints, and names of the user that are nobody's business outside."""

_NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "n": (None, 1),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "logprobs": (None, False),
    "logit_bias": (None, {}),
    "response_format": (None, {"type": "text"}),
}
"""Fields without a counterpart, and the values that mean nothing."""

_CHOICES = {"auto": "auto", "none": "none", "required": "any"}

_DATA_URL = re.compile(r"data:(image/[a-z0-9.+-]{1,64});base64,", re.IGNORECASE)


def request(body: bytes, model: str, usual_tokens: int) -> bytes:
    """The body for `POST /v1/messages` that asks `model` what `body` asks. `usual_tokens`: the longest answer where the
    client named none; Anthropic wants a number. Raises BadRequest."""
    asked = _object(body)
    _check_fields(asked)
    system, turns = _conversation(asked.get("messages"))
    said: dict[str, Any] = {
        "model": model,
        "max_tokens": asked.get("max_completion_tokens") or asked.get("max_tokens") or usual_tokens,
        "messages": turns,
    }
    if system:
        said["system"] = system
    if asked.get("stream"):
        said["stream"] = True
    for name in ("temperature", "top_p"):
        if asked.get(name) is not None:
            said[name] = _share(name, asked[name])
    if (stop := asked.get("stop")) is not None:
        said["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    if asked.get("tools"):
        said["tools"] = [_tool(tool) for tool in asked["tools"]]
        if (choice := _choice(asked)) is not None:
            said["tool_choice"] = choice
    return msgspec.json.encode(said)


def _object(body: bytes) -> dict[str, Any]:
    try:
        asked = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadRequest(f"the request body is not JSON: {error}") from error
    if not isinstance(asked, dict):
        raise BadRequest("the request body is not an object")
    return asked


def _check_fields(asked: dict[str, Any]) -> None:
    for name, neutral in _NEUTRAL.items():
        if asked.get(name) not in neutral:
            raise _unsaid(name)
    for name, value in asked.items():
        if name not in _SAID and name not in _LEFT_OUT and value is not None:
            raise _unsaid(name)


def _unsaid(what: str) -> BadRequest:
    return BadRequest(f"{what[:64]!r} cannot be said in Anthropic's API", param=what[:64])


def _share(name: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise BadRequest(f"{name} is from 0 to 1 in Anthropic's API", param=name)
    return value


def _conversation(messages: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """System texts, which stand apart there, and turns: what follows in one role is one turn, results of tools too."""
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    for message in messages if isinstance(messages, list) else ():
        if not isinstance(message, dict):
            raise BadRequest("a message is not an object", param="messages")
        role = message.get("role")
        if role in ("system", "developer"):
            system += _parts(message.get("content"))
            continue
        content = list(_content(message, role))
        role = "assistant" if role == "assistant" else "user"
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += content
        elif content:
            turns.append({"role": role, "content": content})
    return system, turns


def _content(message: dict[str, Any], role: Any) -> Iterator[dict[str, Any]]:
    match role:
        case "user":
            yield from _parts(message.get("content"))
        case "assistant":
            yield from _parts(message.get("content"))
            for call in message.get("tool_calls") or ():
                yield _use(call)
        case "tool":
            content = _parts(message.get("content"))
            yield {"type": "tool_result", "tool_use_id": message.get("tool_call_id"), "content": content}
        case _:
            raise _unsaid(f"role {role}")


def _parts(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str) or content is None:
        # An empty text block is refused there, and says nothing here.
        return [{"type": "text", "text": content}] if content else []
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise BadRequest("a message's content is a text or a list of parts", param="messages")
    return [_part(part) for part in content if part.get("text") != ""]


def _part(part: dict[str, Any]) -> dict[str, Any]:
    match part:
        case {"type": "text", "text": str(text)}:
            return {"type": "text", "text": text}
        case {"type": "image_url", "image_url": {"url": str(url)}}:
            data = _DATA_URL.match(url)
            if data is not None:
                source = {"type": "base64", "media_type": data[1].lower(), "data": url[data.end() :]}
            else:
                source = {"type": "url", "url": url}
            return {"type": "image", "source": source}
    raise _unsaid(f"content part {part.get('type')}")


def _use(call: Any) -> dict[str, Any]:
    match call:
        case {"id": str(name_of_call), "function": {"name": str(name), "arguments": str(arguments)}}:
            try:
                given = msgspec.json.decode(arguments.encode() or b"{}")
            except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
                raise BadRequest(f"the arguments of a call of {name[:64]!r} are not JSON", param="messages") from error
            return {"type": "tool_use", "id": name_of_call, "name": name, "input": given}
    raise BadRequest("a tool call has an id, and a function with a name and arguments", param="messages")


def _tool(tool: Any) -> dict[str, Any]:
    match tool:
        case {"type": "function", "function": {"name": str(name)} as function}:
            said = {"name": name, "input_schema": function.get("parameters") or {"type": "object"}}
            return {**said, "description": function["description"]} if function.get("description") else said
    raise _unsaid("a tool that is no function")


def _choice(asked: dict[str, Any]) -> dict[str, Any] | None:
    match asked.get("tool_choice"):
        case None:
            said: dict[str, Any] = {"type": "auto"}
        case str(word) if word in _CHOICES:
            said = {"type": _CHOICES[word]}
        case {"type": "function", "function": {"name": str(name)}}:
            said = {"type": "tool", "name": name}
        case _:
            raise _unsaid("tool_choice")
    if asked.get("parallel_tool_calls") is False and said["type"] != "none":
        said["disable_parallel_tool_use"] = True
    return said if said != {"type": "auto"} else None

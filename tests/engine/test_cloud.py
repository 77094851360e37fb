"""Commercial APIs: asked in their own dialect with a key of their own, counted to the token, and only over TLS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from meshnode.config.cloud import CloudModel, CloudProvider, CloudSection
from meshnode.dialects.facts import CHAT, COMPLETION, read_facts
from meshnode.dialects.sse import Usage
from meshnode.engine.cloud import Provider, providers
from meshnode.engine.priced import PricedAnswer, without_usage
from meshnode.errors import BadRequest, ConfigError, EngineFailed, EngineUnauthorized, Overloaded, SecretFileError
from meshnode.model.ids import NodeId
from meshnode.model.job import Job
from tests.dialects.test_anthropic_answer import WHOLE, message
from tests.engine.conftest import Script
from tests.engine.wire import Scripted, answer

LARGE = CloudModel("large", input_price=1.0, output_price=1.0)
STREAM = ("Content-Type: text/event-stream",)
DELTA = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}],"usage":null}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7}}\n\n'
DONE = b"data: [DONE]\n\n"


def job(route: str = CHAT, **asked: Any) -> Job:
    prompt = {"messages": [{"role": "user", "content": "hi"}]} if route == CHAT else {"prompt": "hi"}
    body = json.dumps({"model": "large", **prompt, **asked}).encode()
    return Job("j", route, body, read_facts(route, body, {}), NodeId(bytes(32)), 0.0)


async def provider(scripted: Script, dialect: Any, *script: bytes) -> tuple[Provider, Scripted]:
    server, client = await scripted(list(script))
    section = CloudProvider("acme", client.url, (LARGE,), dialect)
    return Provider(section, CloudSection((section,)), "secret", client), server


async def read(got: PricedAnswer) -> bytes:
    return b"".join([data async for data in got])


def parts(request: bytes) -> tuple[bytes, dict[str, Any]]:
    head, _, body = request.partition(b"\r\n\r\n")
    return head, json.loads(body)


async def test_openais_dialect_passes_as_it_is_with_the_providers_name_of_the_model(scripted: Script) -> None:
    body = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}'
    asked, server = await provider(scripted, "openai", answer(body))
    got = await asked.serve(job(temperature=0.5), "large-2026")
    assert (await read(got), got.usage) == (body, Usage(3, 4))
    head, said = parts(server.requests[0])
    assert b"authorization: Bearer secret" in head
    assert (said["model"], said["temperature"]) == ("large-2026", 0.5)


async def test_a_stream_is_asked_for_its_usage_which_only_those_see_who_asked(scripted: Script) -> None:
    asked, server = await provider(scripted, "openai", answer(DELTA + USAGE + DONE, *STREAM))
    got = await asked.serve(job(stream=True), "large")
    assert (await read(got), got.usage) == (DELTA + DONE, Usage(5, 7))
    assert parts(server.requests[0])[1]["stream_options"] == {"include_usage": True}


async def test_those_who_asked_for_usage_see_it(scripted: Script) -> None:
    asked, _ = await provider(scripted, "openai", answer(DELTA + USAGE + DONE, *STREAM))
    got = await asked.serve(job(stream=True, stream_options={"include_usage": True}), "large")
    assert await read(got) == DELTA + USAGE + DONE


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_a_stream_that_is_cut_is_a_failure(scripted: Script, dialect: str) -> None:
    asked, _ = await provider(scripted, dialect, answer(b'data: {"type":"ping","choices":[]}\n\n', *STREAM))
    got = await asked.serve(job(stream=True), "large")
    with pytest.raises(EngineFailed, match="before it said"):
        await read(got)


async def test_anthropics_dialect_is_translated_both_ways(scripted: Script) -> None:
    asked, server = await provider(scripted, "anthropic", answer(WHOLE, *STREAM))
    got = await asked.serve(job(stream=True), "claude-x")
    events = await read(got)
    assert events.endswith(DONE) and got.usage == Usage(8, 42)
    head, said = parts(server.requests[0])
    assert head.startswith(b"POST /v1/messages ") and b"x-api-key: secret" in head and b"anthropic-version: " in head
    assert (said["model"], said["stream"], said["max_tokens"]) == ("claude-x", True, 4096)


async def test_a_whole_message_is_translated_and_counted(scripted: Script) -> None:
    reply = message(content=[{"type": "text", "text": "hello"}], usage={"input_tokens": 2, "output_tokens": 3})
    asked, _ = await provider(scripted, "anthropic", answer(reply))
    got = await asked.serve(job(), "claude-x")
    assert json.loads(await read(got))["choices"][0]["message"]["content"] == "hello"
    assert got.usage == Usage(2, 3)


async def test_anthropics_dialect_has_chats_alone(scripted: Script) -> None:
    asked, _ = await provider(scripted, "anthropic", b"")
    with pytest.raises(BadRequest, match="chats"):
        await asked.serve(job(COMPLETION), "claude-x")


@pytest.mark.parametrize(("status", "error"), [(401, EngineUnauthorized), (429, Overloaded), (529, EngineFailed)])
async def test_refusals_are_errors_without_the_key(scripted: Script, status: int, error: type[Exception]) -> None:
    refusal = b"HTTP/1.1 %d No\r\nContent-Length: 2\r\n\r\n{}" % status
    asked, _ = await provider(scripted, "anthropic", refusal)
    with pytest.raises(error) as caught:
        await asked.serve(job(), "claude-x")
    assert "secret" not in str(caught.value) and "acme" in str(caught.value)


def configured(**changes: Any) -> CloudSection:
    return CloudSection((CloudProvider("acme", **{"url": "https://api.example", "models": (LARGE,), **changes}),))


def test_a_key_comes_from_the_environment() -> None:
    assert set(providers(configured(key_env="ACME"), {"ACME": " k \n"})) == {"acme"}


def test_a_key_comes_from_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("k\n")
    file.chmod(0o600)
    assert set(providers(configured(key_file=str(file)), {})) == {"acme"}
    file.chmod(0o644)
    with pytest.raises(SecretFileError):
        providers(configured(key_file=str(file)), {})


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"key_env": "ACME"}, "no key in the variable ACME"),
        ({"key_file": "/nonexistent/key"}, "no key in the file"),
        ({"url": "http://api.example", "key_env": "SET"}, "https alone"),
    ],
)
def test_what_cannot_be_used_is_said_at_the_start(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        providers(configured(**changes), {"SET": "k"})


def test_only_the_usage_event_is_taken_out() -> None:
    filtered = b'data: {"choices":[],"prompt_filter_results":[]}\n\n'
    assert without_usage(filtered + DELTA + USAGE + DONE) == filtered + DELTA + DONE


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_the_usage_event_is_known_however_it_is_spaced(end: bytes) -> None:
    """A client that did not ask for it takes `choices[0]` of every event."""
    delta = b'data: {"choices": [{"delta": {"content": "\\"usage\\""}}], "usage": null}'
    usage = b'data: { "choices" : [ ], "usage": {"prompt_tokens": 5, "completion_tokens": 2} }'
    assert without_usage(end.join([delta, usage, b"data: [DONE]", b""])) == end.join([delta, b"data: [DONE]", b""])

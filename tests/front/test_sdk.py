"""The real `openai` client against the door over real sockets: what it makes of answers, streams and errors."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
import trio

from meshnode.access import Wish
from meshnode.errors import (
    BadRequest,
    ContextExceeded,
    DeadlineExceeded,
    EngineFailed,
    Forbidden,
    ModelNotFound,
    NoPeerReachable,
    Overloaded,
    PeerFailed,
    RequestError,
    Unauthorized,
)
from meshnode.front import Keyring
from meshnode.model.answer import WholeAnswer
from meshnode.model.job import Job
from tests.front.fakes import DONE, EVENTS, JSON, WHOLE, Mesh, Script, delta, served

MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]
EMBEDDED = struct.pack("<3f", 0.5, -1.0, 2.0)


def answer(job: Job) -> Any:
    if job.route == "/v1/embeddings":
        vector = base64.b64encode(EMBEDDED).decode()
        item = {"object": "embedding", "index": 0, "embedding": vector}
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        whole = json.dumps({"object": "list", "data": [item], "model": "m", "usage": usage}).encode()
        return WholeAnswer(200, JSON, whole)
    if job.facts.stream:
        return Script(delta("hel"), delta("lo") + delta("", "stop") + DONE, headers=EVENTS)
    return WholeAnswer(200, {**JSON, "x-meshnode-node": "desk"}, WHOLE)


async def using(mesh: Mesh, use: Callable[[openai.OpenAI], Any], retries: int = 0, key: str = "any") -> Any:
    """Run `use` with a client in a thread, as any program would."""
    async with served(mesh.app()) as door:

        def run() -> Any:
            with openai.OpenAI(
                base_url=f"http://127.0.0.1:{door.port}/v1", api_key=key, max_retries=retries, timeout=20
            ) as client:
                return use(client)

        return await trio.to_thread.run_sync(run)


async def test_a_whole_answer() -> None:
    def use(client: openai.OpenAI) -> Any:
        raw = client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
        return raw.parse().choices[0].message.content, raw.headers["x-meshnode-node"], raw.headers["x-request-id"]

    mesh = Mesh(answer)
    assert await using(mesh, use) == ("hello", "desk", mesh.jobs[0].id)


async def test_a_stream() -> None:
    def use(client: openai.OpenAI) -> Any:
        chunks = list(client.chat.completions.create(model="m", messages=MESSAGES, stream=True))
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks), chunks[-1].choices[0].finish_reason

    assert await using(Mesh(answer), use) == ("hello", "stop")


async def test_a_key_opens_and_another_is_an_error_that_is_not_tried_again() -> None:
    mesh = Mesh(answer, keys=Keyring(required=True))
    made = await mesh.keys.add(Wish(owner="ann"))

    def use(client: openai.OpenAI) -> Any:
        return client.chat.completions.create(model="m", messages=MESSAGES).choices[0].message.content

    def fail(client: openai.OpenAI) -> Any:
        with pytest.raises(openai.AuthenticationError) as caught:
            use(client)
        return caught.value.code

    assert await using(mesh, use, key=str(made["key"])) == "hello"
    assert await using(mesh, fail, retries=2, key="mk_wrong") == "invalid_api_key"
    assert [job.owner for job in mesh.jobs] == ["ann"]


async def test_embeddings() -> None:
    def use(client: openai.OpenAI) -> Any:
        return client.embeddings.create(model="m", input="hi").data[0].embedding

    assert await using(Mesh(answer), use) == [0.5, -1.0, 2.0]


async def test_models() -> None:
    def use(client: openai.OpenAI) -> Any:
        return [model.id for model in client.models.list()], client.models.retrieve("big/m:7b").id

    assert await using(Mesh(answer), use) == (["big/m:7b", "m"], "big/m:7b")


async def test_an_unknown_model_gets_a_hint() -> None:
    def use(client: openai.OpenAI) -> Any:
        with pytest.raises(openai.NotFoundError, match="Did you mean 'big/m:7b'") as caught:
            client.models.retrieve("big/m:8b")
        return caught.value.code

    assert await using(Mesh(answer), use) == "model_not_found"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "raised", "attempts"),
    [
        (BadRequest("no", param="messages"), openai.BadRequestError, 1),
        (ContextExceeded("no"), openai.BadRequestError, 1),
        (Unauthorized("no"), openai.AuthenticationError, 1),
        (Forbidden("no"), openai.PermissionDeniedError, 1),
        (ModelNotFound("no"), openai.NotFoundError, 1),
        (Overloaded("no", retry_after_s=0.001), openai.RateLimitError, 2),
        (EngineFailed("no", retry_after_s=0.001), openai.InternalServerError, 2),
        (PeerFailed("no", retry_after_s=0.001), openai.InternalServerError, 2),
        (NoPeerReachable("no", retry_after_s=0.001), openai.InternalServerError, 2),
        (DeadlineExceeded("no"), openai.InternalServerError, 2),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, RequestError) else "",
)
async def test_each_error_is_the_right_exception(
    error: RequestError, raised: type[openai.APIStatusError], attempts: int, stream: bool
) -> None:
    def fail(job: Job) -> Any:
        raise error

    def use(client: openai.OpenAI) -> Any:
        with pytest.raises(raised) as caught:
            client.chat.completions.create(model="m", messages=MESSAGES, stream=stream)
        return caught.value

    mesh = Mesh(fail)
    seen = await using(mesh, use, retries=1 if error.status != 504 else 0)
    assert (seen.code, seen.param, seen.type) == (error.code, error.param, error.kind)
    assert seen.request_id == mesh.jobs[-1].id
    assert len(mesh.jobs) == (attempts if error.status != 504 else 1)


async def test_a_break_in_a_stream_is_an_error_and_not_an_end() -> None:
    def use(client: openai.OpenAI) -> Any:
        heard: list[str] = []
        stream: Iterator[Any] = iter(client.chat.completions.create(model="m", messages=MESSAGES, stream=True))
        with pytest.raises(openai.APIError, match="the peer is gone") as caught:
            heard.extend(chunk.choices[0].delta.content for chunk in stream)
        return heard, caught.value.code

    def breaks(job: Job) -> Any:
        return Script(delta("hel"), delta("lo")[:40], PeerFailed("the peer is gone"))

    assert await using(Mesh(breaks), use) == (["hel"], "peer_failed")

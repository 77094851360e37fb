"""What each kind of engine is understood to offer, and what its refusals become."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshnode.config.engine import EngineSection
from meshnode.engine.adapter import Engine, State, guessed_features
from meshnode.engine.adapters import LlamaServer, LmStudio, Ollama, Vllm
from meshnode.engine.adapters.llama_server import readable
from meshnode.engine.client import EngineClient, whole
from meshnode.errors import BadRequest, ContextExceeded, EngineFailed, EngineUnauthorized, Overloaded, RequestError
from meshnode.model.answer import Answer
from meshnode.testing import FakeEngine
from tests.engine.conftest import Script
from tests.engine.wire import answer

SECTION = EngineSection()
CHAT = "/v1/chat/completions"


def said(value: Any) -> bytes:
    return answer(json.dumps(value).encode())


async def body_of(got: Answer) -> bytes:
    return b"".join([chunk async for chunk in got])


async def test_a_llama_server_says_slots_context_and_tools(fake: FakeEngine, client: EngineClient) -> None:
    engine = LlamaServer(client, SECTION)
    await engine.refresh()
    (offer,) = engine.offers
    assert (engine.state, engine.slots, offer.slots, offer.context) == (State.READY, 4, 4, 4096)
    assert (offer.name, offer.features) == ("fake-model", ("chat", "completion", "tools"))


async def test_a_loading_llama_server_offers_nothing_yet(fake: FakeEngine, client: EngineClient) -> None:
    engine = LlamaServer(client, SECTION)
    fake.loading = True
    await engine.refresh()
    assert (engine.state, engine.offers, engine.detail) == (State.LOADING, (), "Loading model")


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("/models/Qwen2.5-7B-Q4_K_M.gguf", "Qwen2.5-7B-Q4_K_M"),
        ("C:\\m\\phi.GGUF", "phi"),
        ("org/model", "org/model"),
        ("smollm2:135m", "smollm2:135m"),
    ],
)
def test_a_file_path_is_offered_under_a_readable_name(given: str, name: str) -> None:
    assert readable(given) == name


async def test_a_body_with_a_readable_name_goes_untouched(fake: FakeEngine, client: EngineClient) -> None:
    fake.models = ("/models/tiny.gguf",)
    engine = LlamaServer(client, SECTION)
    await engine.refresh()
    assert engine.offered("tiny") is not None
    body = b'{"model":"tiny" , "messages":[]}'
    assert b"t0" in await body_of(await engine.serve(CHAT, {}, body))
    assert (fake.records[0].body, fake.records[0].headers["content-type"]) == (body, "application/json")


async def test_vllm_says_its_context_and_takes_many(scripted: Script) -> None:
    _, client = await scripted([said({"data": [{"id": "org/m", "owned_by": "vllm", "max_model_len": 32768}]})])
    engine = Vllm(client, SECTION)
    assert engine.resident is None
    await engine.refresh()
    assert [(offer.name, offer.context, offer.slots) for offer in engine.offers] == [("org/m", 32768, 64)]


async def test_lm_studio_says_what_is_loaded_and_what_sees(scripted: Script) -> None:
    native = [
        {"id": "a", "type": "vlm", "state": "loaded", "loaded_context_length": 8192, "max_context_length": 131072},
        {"id": "b", "type": "embeddings", "state": "not-loaded", "max_context_length": 512, "quantization": "Q8_0"},
    ]
    _, client = await scripted([said({"data": []}), said({"data": native})])
    engine = LmStudio(client, SECTION)
    await engine.refresh()
    one, other = engine.offers
    assert (one.context, one.loaded, "vision" in one.features) == (8192, True, True)
    assert (other.context, other.loaded, other.features, other.quant) == (512, False, ("embeddings",), "Q8_0")
    assert engine.resident == {"a"}


async def test_ollama_offers_the_context_it_really_serves(scripted: Script) -> None:
    tags = {
        "models": [
            {"name": "llama3.2:latest", "digest": "1", "details": {"family": "llama", "quantization_level": "Q4_K_M"}},
            {"name": "tiny:latest", "digest": "2", "details": None},
        ]
    }
    running = {"models": [{"name": "llama3.2:latest", "context_length": 16384}]}
    weights = "ab" * 32
    llama = {
        "capabilities": ["completion", "tools", "vision"], "model_info": {"llama.context_length": 131072},
        "modelfile": f"# Modelfile\nFROM /usr/share/ollama/blobs/sha256-{weights}\nTEMPLATE x\n",
    }  # fmt: skip
    tiny = {"capabilities": ["embedding"], "model_info": {"bert.context_length": 512}}
    refresh = [said({"data": None}), said(tags), said(running)]
    server, client = await scripted([*refresh, said(llama), said(tiny)], refresh)
    engine = Ollama(client, SECTION)
    await engine.refresh()
    one, other = engine.offers
    assert (one.context, one.loaded, one.family, one.quant) == (16384, True, "llama", "Q4_K_M")
    assert one.features == ("chat", "completion", "tools", "vision")
    assert (one.digest, other.digest) == (bytes.fromhex(weights), b"")
    assert (other.context, other.loaded, other.features) == (512, False, ("embeddings",))
    assert engine.offered("llama3.2") is one
    assert engine.resident == {"llama3.2:latest"}

    await engine.refresh()
    assert engine.offers == (one, other)
    assert sum(b"/api/show" in request for request in server.requests) == 2


@pytest.mark.parametrize(
    "listed", [b"[]", b'"x"', b"not json", b'{"data":[1,{"id":2},{"id":""},{}]}', b'{"data":{"id":"x"}}', b"\xff"]
)
async def test_a_strange_list_of_models_is_an_empty_one(scripted: Script, listed: bytes) -> None:
    _, client = await scripted([answer(listed)])
    engine = Engine(client, SECTION)
    await engine.refresh()
    assert (engine.state, engine.offers) == (State.READY, ())


async def test_a_name_longer_than_an_advert_carries_is_not_offered(scripted: Script) -> None:
    _, client = await scripted([said({"data": [{"id": "x" * 129}, {"id": "y" * 128}]})])
    engine = Engine(client, SECTION)
    await engine.refresh()
    assert [offer.name for offer in engine.offers] == ["y" * 128]


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("nomic-embed-text", ("embeddings",)),
        ("bge-reranker-v2", ("rerank",)),
        ("qwen3:8b", ("chat", "completion", "tools")),
    ],
)
def test_features_are_guessed_from_names_only_where_nothing_is_said(name: str, features: tuple[str, ...]) -> None:
    assert guessed_features(name) == features


def refusal(status: int, body: bytes, *lines: str) -> bytes:
    return answer(body, *lines).replace(b"200 OK", f"{status} X".encode(), 1)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (500, b'{"error":{"message":"boom"}}', EngineFailed),
        (503, b'{"error":{"message":"Loading model"}}', EngineFailed),
        (404, b'{"error":"model not found"}', EngineFailed),
        (401, b"{}", EngineUnauthorized),
        (403, b"{}", EngineUnauthorized),
        (402, b"{}", EngineFailed),
        (405, b"{}", EngineFailed),
        (302, b"", EngineFailed),
        (429, b"{}", Overloaded),
        (501, b'{"error":{"message":"no embeddings"}}', BadRequest),
        (400, b'{"error":{"type":"exceed_context_size_error","message":"too long"}}', ContextExceeded),
        (400, b'{"message":"This model\'s maximum context length is 8 tokens","code":400}', ContextExceeded),
        (400, b'{"error":{"code":"context_length_exceeded","message":"x"}}', ContextExceeded),
    ],
)
async def test_a_refusal_becomes_the_error_it_means(
    scripted: Script, status: int, body: bytes, error: type[RequestError]
) -> None:
    _, client = await scripted([refusal(status, body, "Retry-After: 3")])
    with pytest.raises(error) as caught:
        await Engine(client, SECTION).serve(CHAT, {}, b"{}")
    assert type(caught.value) is error
    assert caught.value.retry_after_s == (3.0 if error is Overloaded else None)
    assert client.active == 0


async def test_an_engine_that_wants_a_key_is_told_of_once_until_it_answers(
    scripted: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    refused, well = refusal(401, b'{"error":{"message":"wrong key: sk-abc"}}'), answer(b"{}")
    _, client = await scripted([refused, refused, well, refused])
    engine = Engine(client, SECTION)
    for wrong in (True, True, False, True):
        if not wrong:
            await body_of(await engine.serve(CHAT, {}, b"{}"))
            continue
        with pytest.raises(EngineUnauthorized, match="refuses its node's credentials"):
            await engine.serve(CHAT, {}, b"{}")
    said = capsys.readouterr()
    assert (said.out + said.err).count("refuses this node's credentials") == 2
    assert "sk-abc" not in said.out + said.err


async def test_the_clients_own_fault_is_passed_on_as_it_is(scripted: Script) -> None:
    body = b'{"error":{"message":"\'messages\' is required"}}'
    _, client = await scripted([refusal(422, body, "Set-Cookie: x")])
    got = await Engine(client, SECTION).serve(CHAT, {}, b"{}")
    assert (got.status, await body_of(got)) == (422, body)
    assert dict(got.headers) == {"content-type": "application/json"}


async def test_a_prompt_past_the_context_is_told_apart(fake: FakeEngine, client: EngineClient) -> None:
    fake.context = 2
    with pytest.raises(ContextExceeded, match=r"exceeds the available context size \(2 tokens\)"):
        await LlamaServer(client, SECTION).serve("/v1/completions", {}, b'{"prompt":"one two three"}')


async def test_an_answer_is_passed_on_byte_for_byte(fake: FakeEngine, client: EngineClient) -> None:
    body = b'{"messages":[],"stream":true}'
    through = await body_of(await LlamaServer(client, SECTION).serve(CHAT, {}, body))
    direct = await whole(await client.request("POST", CHAT, None, body), 1 << 20)
    assert through == direct


@pytest.mark.parametrize("said", ["inf", "nan", "1e999", "soon"])
async def test_a_retry_after_that_is_no_time_is_none(scripted: Script, said: str) -> None:
    _, client = await scripted([refusal(429, b"{}", f"Retry-After: {said}")])
    with pytest.raises(Overloaded) as refused:
        await Engine(client, EngineSection()).serve("/v1/x", {}, b"{}")
    assert refused.value.retry_after_s is None

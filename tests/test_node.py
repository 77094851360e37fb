"""A whole node in a program: what it answers, what it shows, how it starts and how it leaves."""

from __future__ import annotations

import dataclasses
import http.client
import json
import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

import meshnode
from meshnode import commands
from meshnode.config import Config, load
from meshnode.errors import ConfigError, ModelNotFound, NoPeerReachable, SecretFileError, StartError
from meshnode.front.doors import Control
from meshnode.node import Node
from meshnode.testing import Behaviour, FakeEngine
from tests.kit.waiting import PATIENCE_S


@pytest.fixture
async def engine(nursery: trio.Nursery) -> FakeEngine:
    fake = FakeEngine()
    await nursery.start(fake.run)
    return fake


def settings(*urls: str, **node: Any) -> Config:
    return load(flags={
        "front": {"api": "127.0.0.1:0"}, "mesh": {"listen": "127.0.0.1:0"},
        "engine": {"engines": ("none",), "urls": urls}, "node": {"name": "here", **node},
    })  # fmt: skip


async def get(node: Node, path: str) -> tuple[int, bytes]:
    def ask() -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", int(node.api.rpartition(":")[2]), timeout=PATIENCE_S)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    return await trio.to_thread.run_sync(ask)


def post(port: int, model: str, fake: dict[str, Any]) -> int | None:
    """Ask over HTTP; the status, or None where the node hung up."""
    body = json.dumps(
        {"model": model, "messages": [{"role": "user", "content": "hi"}], **({"fake": fake} if fake else {})}
    )
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        response = connection.getresponse()
        response.read()
        return response.status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


async def test_a_program_asks_and_reads_streams(tmp_path: Path, engine: FakeEngine) -> None:
    async with meshnode.Node(settings(engine.url), home=tmp_path / "home") as node:
        await node.engines_settled()
        (model,) = node.models()
        reply = await node.chat(model, "hi", max_tokens=5)
        assert reply.text and reply.usage["completion_tokens"] > 0
        assert reply.route["node"] == "here" and reply.route["attempts"] == "1"
        pieces = []
        async with node.stream(model, [{"role": "user", "content": "hi"}], max_tokens=5) as chunks:
            async for text in chunks:
                pieces.append(text)
        assert "".join(pieces)
        assert chunks.finish_reason
        with pytest.raises(ModelNotFound):
            await node.chat("nobody-has-this", "hi")


async def test_its_advert_tells_how_fast_its_engine_was_measured(tmp_path: Path, engine: FakeEngine) -> None:
    config = settings(engine.url)
    config = dataclasses.replace(config, gossip=dataclasses.replace(config.gossip, refresh_s=1.0))
    # Each token comes by itself, however late it is read.
    engine.behaviour = Behaviour(token_s=0.01)
    async with Node(config, home=tmp_path / "home") as node:
        await node.engines_settled()
        (model,) = node.models()
        async with node.stream(model, "hi", max_tokens=5) as chunks:
            async for _ in chunks:
                pass
        with trio.fail_after(PATIENCE_S):
            while True:
                changed = node.member.mesh.changed
                (offer,) = node.member.view().adverts[node.id].models
                if offer.prefill_ms and offer.decode_us:
                    return
                await changed.wait()


async def test_leaving_a_stream_cuts_the_engine(tmp_path: Path, engine: FakeEngine) -> None:
    engine.behaviour = Behaviour(hang="stream", at=1)
    async with Node(settings(engine.url), home=tmp_path / "home") as node:
        await node.engines_settled()
        async with node.stream(node.models()[0], "hi") as chunks:
            await chunks.__anext__()
        with trio.fail_after(PATIENCE_S):
            await engine.cut(1)


async def test_whose_machine_it_is_says_the_certificate(
    tmp_path: Path, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Node(settings(engine.url), home=tmp_path / "home") as node:
        monkeypatch.setattr(type(node.member), "owner", "bob")  # as after joining by an invite that says so
        assert node.status()["node"]["owner"] == node.status()["mesh"]["owner"] == "bob"


async def test_its_pages_tell_of_it(tmp_path: Path, engine: FakeEngine) -> None:
    async with Node(settings(engine.url), home=tmp_path / "home") as node:
        await node.engines_settled()
        await node.chat(node.models()[0], "hi")
        status, body = await get(node, "/mesh/status")
        told = json.loads(body)
        assert status == 200
        assert told["node"]["id"] == node.id.text and told["node"]["name"] == "here"
        assert told["mesh"]["trust"] == "ca" and told["mesh"]["nodes"] == 1
        assert [line["state"] for line in told["engines"]] == ["ready"]
        assert told["requests"]["answered"] == 1 and told["requests"]["running"] == 0
        health = json.loads((await get(node, "/healthz"))[1])
        assert health["status"] == "ok" and health["meshnode"] == node.id.text
        assert (await get(node, "/readyz"))[0] == 200
        page = (await get(node, "/metrics"))[1].decode()
        assert f'meshnode_requests_total{{model="{node.models()[0]}",node="here",outcome="ok"}} 1.0' in page
        assert "meshnode_nodes 1.0" in page
        node.drain()
        assert (await get(node, "/readyz"))[0] == 503


async def test_the_identity_outlives_a_restart_and_the_run_file_does_not(tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        async with Node(settings(), home=tmp_path / "home") as node:
            seen.append((node.id, node.status()["mesh"]["id"]))
            run = node.home.read_run()
            assert run is not None and run["api"] == node.api
        assert node.home.read_run() is None
    assert seen[0] == seen[1]


async def test_one_home_has_one_node(tmp_path: Path) -> None:
    async with Node(settings(), home=tmp_path / "home"):
        with pytest.raises(StartError, match="in use"):
            async with Node(settings(), home=tmp_path / "home"):
                pass


@pytest.mark.parametrize("section", ["front", "mesh"])
async def test_an_address_in_use_is_named_and_the_home_is_free_again(tmp_path: Path, section: str) -> None:
    async with Node(settings(), home=tmp_path / "one") as node:
        taken = node.api.removeprefix("http://") if section == "front" else node.mesh_address
        key = "api" if section == "front" else "listen"
        flags = {"front": {"api": "127.0.0.1:0"}, "mesh": {"listen": "127.0.0.1:0"}, "engine": {"engines": ("none",)}}
        flags[section][key] = taken
        with pytest.raises(StartError) as caught:
            async with Node(load(flags=flags), home=tmp_path / "two"):
                pass
        assert caught.value.address == taken
    async with Node(settings(), home=tmp_path / "two"):
        pass


async def test_a_start_that_fails_frees_the_mesh_port(tmp_path: Path) -> None:
    """A program may mend what was wrong, and start again."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{found.getsockname()[1]}"
    wrong = load(flags={"front": {"api": "127.0.0.1:0"}, "mesh": {"listen": listen, "peers": ("nowhere",)}})
    with pytest.raises(ConfigError) as failed:
        async with Node(wrong, home=tmp_path / "home"):
            pass
    right = load(flags={"front": {"api": "127.0.0.1:0"}, "mesh": {"listen": listen}, "engine": {"engines": ("none",)}})
    # The failed one is still referred to, by its traceback: nothing is left to the garbage collector.
    assert failed.value.faults
    async with Node(right, home=tmp_path / "home") as node:
        assert node.mesh_address == listen


async def test_the_callers_own_error_leaves_as_itself_and_without_waiting(tmp_path: Path, engine: FakeEngine) -> None:
    engine.behaviour = Behaviour(hang="prefill")

    class OwnError(Exception):
        pass

    async with trio.open_nursery() as asking:
        with trio.fail_after(PATIENCE_S), pytest.raises(OwnError):
            async with Node(settings(engine.url, grace_s=1000), home=tmp_path / "home") as node:
                await node.engines_settled()
                port = int(node.api.rpartition(":")[2])
                asking.start_soon(trio.to_thread.run_sync, post, port, node.models()[0], {})
                await engine.started(1)
                raise OwnError


async def test_leaving_lets_answers_in_flight_finish(tmp_path: Path, engine: FakeEngine) -> None:
    statuses: list[int | None] = []

    async def ask(port: int, model: str) -> None:
        statuses.append(await trio.to_thread.run_sync(post, port, model, {"prefill_s": 1.0}))

    async with trio.open_nursery() as nursery, Node(settings(engine.url), home=tmp_path / "home") as node:
        await node.engines_settled()
        nursery.start_soon(ask, int(node.api.rpartition(":")[2]), node.models()[0])
        await engine.started(1)
    assert statuses == [200]


@pytest.mark.parametrize(("foreign_only", "takes"), [(False, "none"), (True, "own")])
async def test_a_paused_machine_stays_paused_over_a_restart_until_it_is_resumed(
    tmp_path: Path, engine: FakeEngine, foreign_only: bool, takes: str
) -> None:
    def control(node: Node) -> Control:
        return node.presence.doors(node.keys).control

    async def sharing() -> Any:
        async with Node(settings(engine.url), home=tmp_path / "home") as node:
            await node.engines_settled()
            if takes == "none" and node.local.share.paused:
                with pytest.raises(NoPeerReachable, match="takes no requests now"):
                    await node.chat(next(iter(node.engines.advertised())).name, "hi")
            return node.status()["node"]["sharing"]

    async with Node(settings(engine.url), home=tmp_path / "home") as node:
        await control(node).pause(foreign_only)
    for _ in range(2):
        found = await sharing()
        assert (found["takes"], found["paused"]) == (takes, takes)
    assert not engine.records
    async with Node(settings(engine.url), home=tmp_path / "home") as node:
        await control(node).resume()
        assert node.status()["node"]["sharing"]["takes"] == "all"
    assert (await sharing())["paused"] is None


async def test_a_pause_that_cannot_be_kept_holds_and_says_so(
    tmp_path: Path, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise SecretFileError("no space")

    monkeypatch.setattr(commands, "save_pause", full)
    async with Node(settings(engine.url), home=tmp_path / "home") as node:
        with pytest.raises(SecretFileError, match="is paused, but a restart lifts that: no space"):
            await node.presence.doors(node.keys).control.pause(False)
        assert node.status()["node"]["sharing"]["takes"] == "none"


async def test_a_commercial_api_is_asked_last_and_only_by_this_node(
    tmp_path: Path, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_KEY", "secret-of-acme")
    model = {"name": "large", "model": "fake-model", "input_price": 1.0, "output_price": 2.0}
    provider = {"name": "acme", "url": engine.url, "key_env": "ACME_KEY", "models": [model]}
    config = load(flags={
        "front": {"api": "127.0.0.1:0"}, "mesh": {"listen": "127.0.0.1:0"}, "engine": {"engines": ("none",)},
        "node": {"name": "here"}, "cloud": {"providers": [provider], "label": "internal", "budget": 1.0},
    })  # fmt: skip
    async with Node(config, home=tmp_path / "home") as node:
        assert node.models() == ["large"]
        reply = await node.chat("large", "hi", max_tokens=4)
        assert (reply.text, reply.route["node"]) == ("t0 t1 t2 t3 ", "acme")
        async with node.stream("large", "hi", max_tokens=4) as chunks:
            assert "".join([text async for text in chunks]) == "t0 t1 t2 t3 "
        assert [record.headers["authorization"] for record in engine.records] == ["Bearer secret-of-acme"] * 2
        cloud = node.status()["cloud"]
        assert cloud["providers"] == ["acme"] and 0 < cloud["left"] < 1
        left = cloud["left"]
        _, page = await get(node, "/mesh/status")
        assert b"secret-of-acme" not in page
    async with Node(config, home=tmp_path / "home") as node:
        assert node.status()["cloud"]["left"] == left
        with pytest.raises(ModelNotFound):
            await node.chat("other", "hi")


async def test_a_streamed_request_that_waits_is_told_its_place(tmp_path: Path, nursery: trio.Nursery) -> None:
    engine = FakeEngine(slots=1)
    await nursery.start(engine.run)
    config = load(flags={
        "front": {"api": "127.0.0.1:0", "keepalive_s": 0.1}, "mesh": {"listen": "127.0.0.1:0"},
        "engine": {"engines": ("none",), "urls": (engine.url,)}, "node": {"name": "here"},
    })  # fmt: skip

    def first_words(port: int, model: str) -> bytes:
        body = json.dumps({"model": model, "stream": True, "messages": [{"role": "user", "content": "hi"}]})
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        try:
            return connection.getresponse().readline()
        finally:
            connection.close()

    async with Node(config, home=tmp_path / "home") as node:
        await node.engines_settled()
        model, port = node.models()[0], int(node.api.rpartition(":")[2])
        # As many as it has slots are under way until the test ends.
        async with trio.open_nursery() as busy:
            busy.start_soon(partial(node.chat, model, "hi", fake={"prefill_s": 3600.0}))
            await engine.started(1)
            assert await trio.to_thread.run_sync(first_words, port, model) == b": queued 1\n"
            busy.cancel_scope.cancel()

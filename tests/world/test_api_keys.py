"""API keys in whole nodes: what they open and to whom, what of them reaches engines and peers, and that everything
inside goes on without them."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
from typer.testing import CliRunner

from meshnode.access import Wish
from meshnode.cli.app import app
from meshnode.config import Config, load
from meshnode.errors import ConfigError
from meshnode.keep.receipts import newest
from meshnode.model.job import Label
from meshnode.mux.encoder import BlockEncoder
from meshnode.node import Node
from meshnode.noise.channel import Channel
from meshnode.testing import FakeEngine
from tests.test_proofs import MODEL, join, until

Answer = tuple[int, Mapping[str, str], str]


def settings(name: str, urls: tuple[str, ...] = (), api: str = "127.0.0.1:0", **front: Any) -> Config:
    return load(flags={
        "front": {"api": api, **front}, "mesh": {"listen": "127.0.0.1:0", "mdns": False},
        "engine": {"engines": ("none",), "urls": urls}, "node": {"name": name, "owner": "bob"},
    })  # fmt: skip


async def post(node: Node, key: str = "", text: str = "hi", **headers: str) -> Answer:
    """Ask as a client does: status, headers, body."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}], "temperature": 0, "seed": 1}
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if key:
        given["authorization"] = f"Bearer {key}"

    def ask() -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", int(node.api.rpartition(":")[2]), timeout=60)
        try:
            connection.request(
                "POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json", **given}
            )
            response = connection.getresponse()
            return response.status, dict(response.headers), response.read().decode()
        finally:
            connection.close()

    return await trio.to_thread.run_sync(ask)


async def key_of(node: Node, owner: str = "ann", **wish: Any) -> tuple[str, str]:
    """A new key and its id."""
    made = await node.keys.add(Wish(owner=owner, **wish))
    return str(made["key"]), str(made["id"])


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _everything_in(folder: Path) -> bytes:
    return b"".join(one.read_bytes() for one in folder.rglob("*") if one.is_file())


@pytest.fixture
async def engine(nursery: trio.Nursery) -> FakeEngine:
    fake = FakeEngine()
    await nursery.start(fake.run)
    return fake


async def test_a_key_opens_from_the_moment_it_is_made_until_it_is_revoked_and_over_restarts(
    tmp_path: Path, engine: FakeEngine
) -> None:
    config = settings("here", (engine.url,))
    async with Node(config, home=tmp_path) as node:
        await node.engines_settled()
        assert (await post(node))[0] == 200
        key, _ = await key_of(node)
        assert [(await post(node, one))[0] for one in ("", "sk-unused", key)] == [401, 401, 200]
    async with Node(config, home=tmp_path) as node:
        await node.engines_settled()
        assert [(await post(node, one))[0] for one in ("", key)] == [401, 200]
        await node.keys.revoke(str(node.keys.listed()[0]["id"]))
        assert [(await post(node, one))[0] for one in ("", key)] == [401, 401]


async def test_a_key_stays_at_the_node_it_was_given_to(
    tmp_path: Path, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither its peer nor the engine behind it sees more than the owner's name, sensitive and failing requests too."""
    records: list[bytes] = []
    heads: list[tuple[str, str]] = []
    seal, encode = Channel.seal, BlockEncoder.encode

    def sealed(self: Channel, given: Any) -> bytes:
        records.extend(bytes(one) for one in given)
        return seal(self, given)

    def encoded(self: BlockEncoder, given: Any) -> bytes:
        pairs = list(given)
        heads.extend((_text(name), _text(value)) for name, value in pairs)
        return encode(self, pairs)

    monkeypatch.setattr(Channel, "seal", sealed)
    monkeypatch.setattr(BlockEncoder, "encode", encoded)
    async with (
        Node(settings("server", (engine.url,)), home=tmp_path / "server") as server,
        Node(settings("asker"), home=tmp_path / "asker") as asker,
    ):
        await join(server, asker)
        await until(asker, lambda: MODEL in asker.models())
        key, key_id = await key_of(asker, "ann")
        for headers in ({}, {"x_api_key": key}, {"idempotency_key": "once"}, {"cookie": f"session={key}"}):
            status, told, _ = await post(asker, key, "a-canary", **headers)
            assert (status, told["x-meshnode-node"]) == (200, "server")
        assert (await post(asker, key, x_meshnode_label="sensitive"))[0] == 503
        (seen, *_), last = engine.records, engine.records[-1]
        log = "".join(capsys.readouterr())
        kept = await trio.to_thread.run_sync(_everything_in, tmp_path)
    assert b"a-canary" in seen.body and any(b"a-canary" in one for one in records), "everything was seen"
    assert ("meshnode-owner", "ann") in heads
    for secret in (key, key.removeprefix("mk_")):
        for record in engine.records:
            assert secret not in str(record.headers) and secret.encode() not in record.body
        assert not any(secret in value for pair in heads for value in pair)
        assert not any(secret.encode() in one for one in records)
        assert secret not in log and secret.encode() not in kept
    assert not {"authorization", "x-api-key", "cookie"} & {name for name, _ in heads}
    assert not {"authorization", "x-api-key", "cookie"} & {*seen.headers, *last.headers}
    assert not any(key_id in value for pair in heads for value in pair), "its id is nobody else's business either"


async def test_what_one_key_asked_is_not_shared_with_another(tmp_path: Path, engine: FakeEngine) -> None:
    async with Node(settings("here", (engine.url,)), home=tmp_path) as node:
        await node.engines_settled()
        (one, one_id), (other, other_id) = await key_of(node, "ann"), await key_of(node, "ann")
        for key in (one, other):
            assert (await post(node, key, idempotency_key="k"))[0] == 200
        assert len(engine.records) == 2
        status, headers, _ = await post(node, one, idempotency_key="k")
        assert (status, headers["x-meshnode-cache"], len(engine.records)) == (200, "replayed", 2)
        last = node.presence.requests(1)[0]
        assert (last["owner"], last["key"]) == ("ann", one_id)
    assert sorted(row.key for row in newest(tmp_path, 10)) == sorted((one_id, other_id))


async def test_requests_are_their_keys_owners_where_slots_are_given(tmp_path: Path, engine: FakeEngine) -> None:
    async with Node(settings("here", (engine.url,)), home=tmp_path) as node:
        await node.engines_settled()
        (anns, _), (bobs, _) = await key_of(node, "ann"), await key_of(node, "bob")
        node.local.share.pause(foreign_only=True)
        assert [(await post(node, key))[0] for key in (bobs, node.home.control_secret())] == [200, 200]
        status, _, body = await post(node, anns)
        assert status == 503 and "serves nobody but bob" in body
        node.local.share.resume()
        assert (await post(node, anns))[0] == 200


async def test_the_keys_label_holds_whatever_a_request_says(tmp_path: Path, engine: FakeEngine) -> None:
    async with (
        Node(settings("server", (engine.url,)), home=tmp_path / "server") as server,
        Node(settings("asker"), home=tmp_path / "asker") as asker,
    ):
        await join(server, asker)
        await until(asker, lambda: MODEL in asker.models())
        key, _ = await key_of(asker, label=Label.SENSITIVE)
        for headers in ({}, {"x_meshnode_label": "public"}):
            status, _, body = await post(asker, key, **headers)
            assert status == 503 and "attested" in body
        assert not engine.records


async def test_with_keys_on_everything_inside_goes_on(tmp_path: Path, engine: FakeEngine) -> None:
    """The command line, programs that embed a node, and peers, in both directions."""
    async with (
        Node(settings("server", (engine.url,)), home=tmp_path / "server") as server,
        Node(settings("asker"), home=tmp_path / "asker") as asker,
    ):
        for node in (server, asker):
            await key_of(node)
        await join(server, asker)
        await until(asker, lambda: MODEL in asker.models())
        assert (await asker.chat(MODEL, "hi")).text
        for node in (server, asker):
            for words in (
                ["status"], ["models"], ["ps"], ["peers"], ["why"], ["invite", "--no-qr"], ["pause"], ["resume"],
                ["keys", "list"], ["explain", MODEL], ["run", MODEL, "hi"], ["run", "--api", node.api, MODEL, "hi"],
            ):  # fmt: skip
                line = [*words, "--home", str(node.home.path)]
                result = await trio.to_thread.run_sync(lambda line=line: CliRunner().invoke(app, line))  # type: ignore[misc]
                assert result.exit_code == 0, (line, result.output)


async def test_the_network_is_listened_to_with_keys_only_and_never_opens_again(
    tmp_path: Path, engine: FakeEngine
) -> None:
    everywhere = settings("here", (engine.url,), "0.0.0.0:0", open_to_network=True)
    with pytest.raises(ConfigError, match="keys add"):
        async with Node(everywhere, home=tmp_path):
            pass
    result = CliRunner().invoke(app, ["keys", "add", "--owner", "ann", "--home", str(tmp_path)], env=dict(os.environ))
    key = result.stdout.strip()
    async with Node(everywhere, home=tmp_path) as node:
        await node.engines_settled()
        assert [(await post(node, one))[0] for one in ("", key)] == [401, 200]
        key_id = str(node.keys.listed()[0]["id"])
        await node.keys.revoke(key_id)
        assert (await node.keys.forget(key_id))["closed"] is True
        assert (await post(node))[0] == 401

"""What a client labels as sensitive, over HTTP through whole nodes: answered by who has proven itself or is pinned,
else by nobody; never by who happens to be there once the proven one has left."""

from __future__ import annotations

import http.client
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from meshnode.mesh import vouching
from meshnode.model.posture import Posture
from meshnode.node import Node
from meshnode.testing import FakeEngine
from tests.test_proofs import MODEL, OPERATORS, attest, join, settings, until


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow one another at once: what is tested is what they find."""
    monkeypatch.setattr(vouching, "SETTLE_S", 0.02)
    monkeypatch.setattr(vouching, "LOOK_S", 0.2)


@asynccontextmanager
async def server(home: Path, engine: FakeEngine, asker: Node) -> AsyncIterator[Node]:
    """A node with an engine, in the asker's mesh; leaving the block, it leaves."""
    async with Node(settings(home.name, (engine.url,)), home=home) as node:
        await join(asker, node)
        await until(asker, lambda: any(peer["name"] == home.name and peer["models"] for peer in asker.peers()))
        yield node


async def post(node: Node, label: str, stream: bool = False) -> tuple[int, str, str]:
    """Ask as a client does: the status, who answered, and what."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    headers = {"content-type": "application/json", "x-meshnode-label": label}

    def ask() -> tuple[int, str, str]:
        connection = http.client.HTTPConnection("127.0.0.1", int(node.api.rpartition(":")[2]), timeout=60)
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, response.headers.get("x-meshnode-node", ""), response.read().decode()
        finally:
            connection.close()

    return await trio.to_thread.run_sync(ask)


async def refused(node: Node) -> None:
    """Nobody takes it, streamed or not, and the answer says what is missing."""
    for stream in (False, True):
        status, by, body = await post(node, "sensitive", stream)
        assert (status, by) == (503, ""), body
        assert "attested" in body and "pinned" in body and "sensitive" in body


async def test_a_sensitive_request_goes_to_the_attested_node_and_to_nobody_once_it_has_left(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    plain, proven = FakeEngine(), FakeEngine()
    await nursery.start(plain.run)
    await nursery.start(proven.run)
    async with (
        Node(settings("asker", **OPERATORS), home=tmp_path / "asker") as asker,
        server(tmp_path / "plain", plain, asker) as other,
    ):
        await refused(asker)
        assert (await post(asker, "internal"))[:2] == (200, "plain")
        before = len(plain.records)
        async with server(tmp_path / "proven", proven, asker) as node:
            await refused(asker)
            attest(tmp_path / "proven")
            await until(asker, lambda: asker.member.view().postures.get(node.id) == Posture.ATTESTED)
            for turn in range(6):
                assert (await post(asker, "sensitive", stream=bool(turn % 2)))[:2] == (200, "proven")
        await until(asker, lambda: node.id not in asker.member.view().links)
        await refused(asker)
        assert len(plain.records) == before
        # The other is still there for what is not sensitive, and for all once it is trusted by hand.
        assert (await post(asker, "internal"))[:2] == (200, "plain")
        await asker.presence.doors(asker.keys).control.trust(other.id.text, "plain")
        assert (await post(asker, "sensitive"))[:2] == (200, "plain")

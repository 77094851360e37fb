"""A whole node whose peers never answer: what it does for its own clients waits for none of them."""

from __future__ import annotations

import json
from pathlib import Path

import trio

from meshnode.config import load
from meshnode.node import Node
from meshnode.testing import FakeEngine
from tests.kit.waiting import PATIENCE_S
from tests.test_node import get, post


async def mute(stream: trio.SocketStream) -> None:
    """Accept, and say nothing."""
    await stream.receive_some(65_536)
    await trio.sleep_forever()


async def test_a_node_answers_its_own_clients_while_its_peers_say_nothing(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    engine = FakeEngine()
    await nursery.start(engine.run)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, mute, listeners)
    silent = f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    config = load(flags={
        "front": {"api": "127.0.0.1:0"},
        # The first takes connections and says nothing; where the second should be, nothing is.
        "mesh": {"listen": "127.0.0.1:0", "peers": (silent, "192.0.2.1:6375"), "handshake_timeout_s": 3600.0},
        "engine": {"engines": ("none",), "urls": (engine.url,)},
    })  # fmt: skip
    with trio.fail_after(PATIENCE_S):
        async with Node(config, home=tmp_path / "home") as node:
            await node.engines_settled()
            model = node.models()[0]
            for path in ("/healthz", "/readyz", "/mesh/status", "/metrics"):
                assert (await get(node, path))[0] == 200, path
            status, body = await get(node, "/v1/models")
            assert (status, [card["id"] for card in json.loads(body)["data"]]) == (200, [model])
            port = int(node.api.rpartition(":")[2])
            assert await trio.to_thread.run_sync(post, port, model, {}) == 200
            assert not node.peers() or all(not peer.get("linked") for peer in node.peers())
    nursery.cancel_scope.cancel()

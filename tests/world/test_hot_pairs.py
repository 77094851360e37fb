"""A peer that is asked again and again over relays gets a link of its own, which ends when nobody uses it."""

from __future__ import annotations

from pathlib import Path

import trio
from trio.testing import MockClock

from meshnode.gossip.heat import COLD_S, HOT_REQUESTS
from tests.kit.world import ScriptedEngine, World, WorldNode, world

COUNT = 8
SMALL = {"full_mesh_nodes": 2, "active_links": 2, "accepted_links": 2, "swap_s": 86_400.0}
"""Eight nodes are a large mesh then, and nobody links to more than it must."""


async def ring(where: World, engine: ScriptedEngine) -> list[WorldNode]:
    """Each names the one before it: what they choose beside that is little."""
    nodes: list[WorldNode] = []
    for number in range(COUNT):
        before = (f"n{number - 1}",) if number else ()
        last = engine if number == COUNT - 1 else None
        nodes.append(await where.add(f"n{number}", peers=before, engine=last, settings={"mesh": SMALL}))
    await nodes[0].until_reachable({f"n{number}" for number in range(1, COUNT)}, model_of=f"n{COUNT - 1}")
    return nodes


def distant(nodes: list[WorldNode]) -> WorldNode:
    """A node that has no link to the server."""
    server = nodes[-1].id
    return next(node for node in nodes if node.id != server and server not in node.member.view().links)


async def test_a_peer_asked_often_over_relays_gets_a_link_of_its_own_until_it_is_not_asked_any_more(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        nodes = await ring(where, ScriptedEngine("m"))
        await trio.sleep(30.0)
        asker, server = distant(nodes), nodes[-1]
        for _ in range(HOT_REQUESTS - 1):
            answer, _ = await asker.ask_whole("m")
            assert answer.headers["x-meshnode-privacy"] == "sealed"
        await trio.sleep(5.0)
        assert server.id not in asker.member.view().links
        await asker.ask_whole("m")
        with trio.fail_after(10.0):
            while server.id not in asker.member.view().links:
                await asker.member.mesh.changed.wait()
        answer, _ = await asker.ask_whole("m")
        assert answer.headers["x-meshnode-privacy"] == "direct"
        # The tunnel is needed no more.
        await trio.sleep(30.0)
        assert not asker.member.mesh.tunnels.links
        # Used, it stays, however long.
        for _ in range(4):
            await trio.sleep(COLD_S / 2)
            answer, _ = await asker.ask_whole("m")
            assert answer.headers["x-meshnode-privacy"] == "direct"

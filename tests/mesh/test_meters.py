"""The numbers for `/metrics`: what happened is counted, under labels that no peer can add to."""

from __future__ import annotations

from pathlib import Path

from trio.testing import MockClock

from meshnode.mesh import meters
from meshnode.observe.metrics import Metrics
from tests.kit.world import Papers, ScriptedEngine, WorldNode, world


def page(node: WorldNode) -> dict[str, float]:
    metrics = Metrics()
    metrics.families(lambda: meters.read(node.member.mesh))
    lines = metrics.render().decode().splitlines()
    pairs = (
        line.rsplit(" ", 1) for line in lines if line.startswith(("meshnode_gossip", "meshnode_link", "meshnode_tun"))
    )
    return {name: float(value) for name, value in pairs}


async def test_a_row_counts_gossip_links_and_tunnels(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        nodes: list[WorldNode] = []
        for name in "abc":
            nodes.append(
                await where.add(
                    name, peers=(nodes[-1].name,) if nodes else (), engine=ScriptedEngine("m") if name == "c" else None,
                    settings={"mesh": {"dial_learned": False}}, papers=Papers(root=not nodes),
                )
            )  # fmt: skip
        a, b, c = nodes
        await a.until_reachable({"b", "c"}, model_of="c")
        await c.until_reachable({"a", "b"})
        await a.ask_whole("m")
        first, relay, last = page(a), page(b), page(c)
    assert relay['meshnode_links_by_state{state="up"}'] == 2
    assert relay['meshnode_links_made_total{kind="direct"}'] == 2
    assert relay["meshnode_tunnels_relayed_total"] == relay["meshnode_tunnels_relayed_now"] == 1
    assert relay["meshnode_tunnel_relayed_bytes_total"] > 500
    assert (first['meshnode_tunnels{end="opened"}'], last['meshnode_tunnels{end="accepted"}']) == (1, 1)
    assert first['meshnode_link_sent_bytes_total{kind="sealed"}'] > 0
    assert (
        first['meshnode_link_sent_bytes_total{kind="direct"}'] > first['meshnode_link_sent_bytes_total{kind="sealed"}']
    )
    assert all(one["meshnode_gossip_adverts_total"] >= 2 for one in (first, relay, last))
    assert first["meshnode_gossip_sent_bytes_total"] > 0
    assert set(first) - {name for name in first if "rtt" in name} == set(last) - {
        name for name in last if "rtt" in name
    }


async def test_the_page_keeps_its_size_however_large_the_mesh(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        a = await where.add("a")
        await where.add("b", peers=("a",))
        await a.until_reachable({"b"})
        two = set(page(a))
        for name in "cdef":
            await where.add(name, peers=("a",))
        await a.until_reachable(set("bcdef"))
        assert {name for name in page(a) if "rtt" not in name} == {name for name in two if "rtt" not in name}

"""Links between whole nodes: what goes wrong at one ends that one, and it comes back."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from trio import sleep
from trio.testing import MockClock

from meshnode.errors import SecretFileError
from meshnode.mesh import member
from meshnode.mesh.gossiper import Gossiper
from meshnode.model.advert import ModelOffer
from meshnode.net import Link
from tests.kit.world import world


async def test_a_crash_at_a_dialled_link_ends_that_link_only(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry, crashes = Gossiper.carry, 0

    async def crash_twice(self: Gossiper, link: Link) -> None:
        nonlocal crashes
        if link.initiator and crashes < 2:
            crashes += 1
            raise ValueError("a fault of ours")
        await carry(self, link)

    monkeypatch.setattr(Gossiper, "carry", crash_twice)
    async with world(tmp_path) as where:
        await where.add("server")
        node = await where.add("node", peers=("server",))
        await node.until_reachable({"server"})
        assert crashes == 2


async def test_a_link_whose_gossip_broke_is_made_anew(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        server = await where.add("server")
        node = await where.add("node", peers=("server",), listens=False)
        await node.until_reachable({"server"})
        before = node.member.link(server.id)
        assert before is not None
        for stream in list(before._streams.values()):
            stream.reset()
        await sleep(30.0)
        advert = node.member._advert
        assert advert is not None and node.member.link(server.id) is not before
        node.member.describe(msgspec.structs.replace(advert, models=(ModelOffer("new"),)))
        await server.until_reachable({"node"}, model_of="node")


async def test_a_node_whose_disk_is_full_goes_on(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise SecretFileError("cannot write: No space left on device")

    monkeypatch.setattr(member, "save_addresses", full)
    async with world(tmp_path) as where:
        await where.add("server")
        node = await where.add("node", peers=("server",))
        await sleep(60.0)
        assert node.reachable() == {"server"}

"""Gossip's streams: one from each neighbour, so that what it holds back is bounded."""

from __future__ import annotations

from pathlib import Path

import trio
from trio.testing import MockClock

from meshnode.mesh import gossiper
from meshnode.mesh.exchange import head_of
from tests.kit.world import world


async def test_a_neighbour_that_speaks_twice_is_shut_out(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A thousand streams could each hold back most of a frame: more than one link may cost."""
    async with world(tmp_path) as where:
        studio, laptop = await where.add("studio"), await where.add("laptop", peers=("studio",))
        with trio.fail_after(10.0):
            await studio.until_linked(laptop)
        await trio.sleep(1.0)
        link = laptop.member.link(studio.id)
        assert link is not None
        stream = await link.request(head_of(gossiper.PATH), end=False)
        await stream.send((60_000).to_bytes(4, "big") + bytes(50_000))
        with trio.fail_after(5.0):
            await studio.until_linked()
        assert studio.member.mesh.peers._overlay.shut_out(laptop.id, trio.current_time()) is not None

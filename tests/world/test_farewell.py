"""Who leaves with a word: its links say that no stream may be opened any more before anybody hears that it is gone."""

from __future__ import annotations

from pathlib import Path

import trio
from trio.testing import MockClock

from tests.kit.world import ScriptedEngine, world


async def test_links_part_before_the_node_is_gone(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        leaving = await where.add("leaving", engine=ScriptedEngine("m"))
        stays = await where.add("stays", peers=("leaving",))
        await stays.until_reachable({"leaving"}, model_of="leaving")
        link = stays.member.link(leaving.id)
        assert link is not None and not link.draining
        leaving.member.farewell()
        with trio.fail_after(5):
            while "leaving" in stays.reachable():
                assert (leaving.id in stays.member.view().adverts) or link.draining
                await stays.member.mesh.changed.wait()
        assert link.draining

"""What an engine says arrives byte for byte, however it was cut, whatever it is and whoever passed it on."""

from __future__ import annotations

from pathlib import Path

import pytest
from trio.testing import MockClock

from meshnode.model.job import Privacy
from tests.kit.world import LAST, ScriptedEngine, world

MODEL = "m"
SAID = (
    'data: {"choices":[{"delta":{"content":"żółć, 漢字, 🦙\u2028"}}]}\n\n'.encode() + b": \xc2\x80\r\n\x00\n\n" + LAST
)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize("privacy", list(Privacy), ids=lambda privacy: privacy.value)
async def test_characters_cut_in_two_arrive_as_they_left(
    tmp_path: Path, autojump_clock: MockClock, size: int, privacy: Privacy
) -> None:
    async with world(tmp_path) as where:
        pieces = [SAID[at : at + size] for at in range(0, len(SAID), size)]
        await where.add("relay")
        await where.add("server", peers=("relay",), engine=ScriptedEngine(MODEL, list(pieces)), listens=False)
        asker = await where.add("asker", peers=("relay",), listens=False)
        await asker.until_reachable({"relay", "server"}, model_of="server")
        answer, body = await asker.ask_whole(MODEL, privacy=privacy)
        assert answer.headers["x-meshnode-path"] == "asker > relay > server"
        assert body == SAID

"""A server's load in trailers and refusals: what is written is read, nonsense is no word, and routing hears of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from meshnode.dispatch import load
from meshnode.errors import Overloaded
from meshnode.gossip.facts import facts
from meshnode.slots import Load
from tests.kit.world import EVENT, LAST, Papers, ScriptedEngine, WorldNode, world


@given(st.integers(), st.integers(), st.integers(), st.floats(allow_nan=False))
def test_what_is_written_is_read_within_its_bounds(free: int, busy: int, queued: int, wait_s: float) -> None:
    told = load.write(Load(free, busy, queued, wait_s))
    assert load.read({load.HEADER: told}) == facts(free, queued, busy, wait_s)


@pytest.mark.parametrize(
    "text", ["", "1 2 3", "1 2 3 4 5", "1 2 3 x", "-1 0 0 0", "1  2 3", "0 0 0 86400001", "1000001 0 0 0", "١ 0 0 0",
             "0 0 0 " + "0" * 40],
)  # fmt: skip
def test_nonsense_is_no_word(text: str) -> None:
    assert load.read({load.HEADER: text}) is None


def test_a_node_is_as_soon_free_as_its_soonest_engine() -> None:
    assert load.of_node([Load(0, 4, 2, 8.0), Load(1, 3, 0, 0.0)]) == facts(1, 2, 7, 0.0)
    assert load.of_node([]) is None


async def row(where: object, *names: str, engine: ScriptedEngine) -> list[WorldNode]:
    nodes: list[WorldNode] = []
    for name in names:
        nodes.append(
            await where.add(  # type: ignore[attr-defined]
                name, peers=(nodes[-1].name,) if nodes else (), engine=engine if name == names[-1] else None,
                settings={"mesh": {"dial_learned": False}, "engine": {"queue_min": 1}}, papers=Papers(root=not nodes),
            )
        )  # fmt: skip
    await nodes[0].until_reachable(set(names[1:]), model_of=names[-1])
    await nodes[-1].until_reachable(set(names[:-1]))
    return nodes


def expected_wait_s(asker: WorldNode, server: WorldNode) -> float | None:
    record = asker.router.known.measurements.of("m").get(server.id)
    return None if record is None else record.reported_until - trio.current_time()


@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "c")])
async def test_an_answer_s_end_and_a_refusal_tell_the_load(
    tmp_path: Path, autojump_clock: MockClock, names: tuple[str, ...]
) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine("m", [EVENT, 30.0, LAST], slots=1)
        nodes = await row(where, *names, engine=engine)
        asker, server = nodes[0], nodes[-1]
        async with trio.open_nursery() as nursery:
            # One runs and two wait, twice as many as slots: one of each owner, or the other would make room.
            for _ in range(2):
                nursery.start_soon(partial(server.ask_whole, "m", timeout_s=600.0))
            await engine.until_busy()
            nursery.start_soon(partial(asker.ask_whole, "m", timeout_s=600.0))
            await trio.sleep(0.5)
            with pytest.raises(Overloaded) as caught:
                await asker.ask("m")
            assert load.read({load.HEADER: caught.value.load}) is not None
            waits_s = expected_wait_s(asker, server)
            assert waits_s is not None
            assert waits_s > 1.0
        _, body = await asker.ask_whole("m")
        assert body == EVENT + LAST
        # Whatever its refusal said, the end of its answer is newer.
        assert (expected_wait_s(asker, server) or 0.0) <= 0.0


async def test_neighbours_hear_of_a_full_server_without_asking_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine("m", [EVENT, 60.0, LAST], slots=1)
        asker, server = await row(where, "a", "b", engine=engine)
        assert expected_wait_s(asker, server) is None
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(partial(server.ask_whole, "m", timeout_s=600.0))
            await engine.until_busy()
            await trio.sleep(5.0)
            waits_s = expected_wait_s(asker, server)
            assert waits_s is not None
            assert waits_s > 1.0
        await trio.sleep(5.0)
        assert (expected_wait_s(asker, server) or 0.0) <= 0.0

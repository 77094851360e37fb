"""Peers that fall silent without a word: they hold no slot, hide no model, and take nobody of a like name along."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from meshnode.dispatch import wire
from meshnode.dispatch.wire import envelope_of
from tests.kit.world import EVENT, LAST, ScriptedEngine, WorldNode, world

MODEL = "m"


def offered(node: WorldNode) -> set[str]:
    """The models that a node lists, at this moment: nobody is asked."""
    return {offer.name for advert in node.member.view().adverts.values() for offer in advert.models}


async def test_a_peer_that_vanishes_in_mid_answer_gives_its_slot_back(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [EVENT, *([1.0, EVENT] * 10_000), LAST], slots=1)
        server = await where.add("server", engine=engine)
        node = await where.add("node", peers=("server",))
        await node.until_reachable({"server"}, model_of="server")
        answer = await node.ask(MODEL, timeout_s=10_000)
        await answer.__anext__()
        where.net.partition({"server"}, {"node"})
        with trio.fail_after(60.0):
            await engine.until(running=0)
        await trio.testing.wait_all_tasks_blocked()
        assert server.local.load(engine).free == 1
        await answer.aclose()


async def test_a_peer_that_never_sends_its_body_holds_nothing_longer_than_it_asked(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, slots=1)
        server = await where.add("server", engine=engine)
        node = await where.add("node", peers=("server",))
        await node.until_reachable({"server"}, model_of="server")
        link = node.member.link(server.id)
        assert link is not None
        job = node.job(MODEL)
        envelope = dataclasses.replace(envelope_of(job, 1, server.id, trio.current_time()), remaining_s=30.0)
        stream = await link.request(wire.write(envelope, node.id), end=False)
        with trio.fail_after(35.0):
            assert (await stream.head())[wire.ERROR] == "deadline_exceeded"
        assert server.inbound.running == 0
        assert server.local.load(engine).free == 1


async def test_a_peer_that_never_reads_its_answer_gives_the_slot_back(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [EVENT * 1000] * 200, slots=1)
        server = await where.add("server", engine=engine)
        node = await where.add("node", peers=("server",))
        await node.until_reachable({"server"}, model_of="server")
        link = node.member.link(server.id)
        assert link is not None
        job = node.job(MODEL, timeout_s=10_000)
        envelope = envelope_of(job, 1, server.id, trio.current_time())
        stream = await link.request(wire.write(envelope, node.id), job.body)
        await stream.head()
        with trio.fail_after(60.0):
            await engine.until(running=0)
        assert engine.cut == 1, "and not because it had said everything"
        await trio.testing.wait_all_tasks_blocked()
        assert server.local.load(engine).free == 1


@pytest.mark.parametrize("silent", ["vanished", "killed"])
async def test_one_offline_peer_hides_no_model_of_others_and_delays_no_list(
    tmp_path: Path, autojump_clock: MockClock, silent: str
) -> None:
    async with world(tmp_path) as where:
        for name in ("one", "two"):
            await where.add(name, peers=() if name == "one" else ("one",), engine=ScriptedEngine(name))
        node = await where.add("node", peers=("one", "two"))
        await node.until_reachable({"one", "two"}, model_of="two")
        await node.until_reachable({"one", "two"}, model_of="one")
        if silent == "killed":
            await where.kill("two")
        else:
            where.net.partition({"node", "one"}, {"two"})
        asked_at = trio.current_time()
        assert "one" in offered(node)
        _, body = await node.ask_whole("one")
        assert body == EVENT + LAST
        assert trio.current_time() == asked_at
        with trio.fail_after(60.0):
            await node.until_reachable({"one"})
        assert "one" in offered(node)


async def test_a_node_whose_name_is_part_of_anothers_goes_alone(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        names = {"lab", "lab-2", "my-lab", "lab.local"}
        studio = await where.add("studio")
        for name in sorted(names):
            await where.add(name, peers=("studio",))
        await studio.until_reachable(names)
        await where.kill("lab")
        with trio.fail_after(60.0):
            await studio.until_reachable(names - {"lab"})
        await studio.member.forget(where.nodes["lab-2"].id)
        await trio.sleep(60.0)
        assert studio.reachable() >= {"my-lab", "lab.local"}

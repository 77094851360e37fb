"""Over real links: the owner first on the owner's machine, names that nobody backs, pauses, and what waits is shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from meshnode.dispatch import remote
from meshnode.dispatch.wire import envelope_of
from meshnode.errors import NoPeerReachable, NotShared, Overloaded, Paused, RequestError
from meshnode.model.job import Priority
from tests.kit.world import EVENT, LAST, Papers, ScriptedEngine, World, WorldNode, world

MODEL = "m"
SLOW: list[bytes | float | Exception] = [10.0, EVENT, LAST]


async def machines(
    where: World, engine: ScriptedEngine, *askers: str, sharing: dict[str, object] | None = None
) -> tuple[WorldNode, ...]:
    """Ann's desk with the engine, and a node of each other owner ("" for nobody's)."""
    settings = {"sharing": sharing or {}, "engine": {"queue_min": 8}}
    desk = await where.add("desk", engine=engine, papers=Papers(owner="ann"), settings=settings)
    others = [
        await where.add(f"{owner or 'nobody'}{number}", peers=("desk",), papers=Papers(owner=owner))
        for number, owner in enumerate(askers)
    ]
    for node in others:
        while "desk" not in node.reachable() or "desk" not in node._with_models():
            await node.member.mesh.changed.wait()
    return (desk, *others)


async def send(asker: WorldNode, desk: WorldNode, owner: str, priority: Priority = Priority.NORMAL) -> str:
    """Ask with a claim of one's own choice; the position in the queue at entry."""
    job = dataclasses.replace(asker.job(MODEL, timeout_s=600.0), priority=priority)
    envelope = dataclasses.replace(envelope_of(job, 1, desk.id, trio.current_time()), owner=owner)
    link = asker.member.link(desk.id)
    assert link is not None
    answer = await remote.ask(link, envelope, job.body, asker.id, desk.name, leases=asker.around.leases)
    assert b"".join([chunk async for chunk in answer]) == EVENT + LAST
    return answer.headers["x-meshnode-queue-position"]


class Order:
    """Requests started one after the other; `ended` are their names in the order in which they were answered."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.ended: list[str] = []
        self.positions: dict[str, str] = {}
        self._nursery = nursery

    async def start(self, name: str, ask: Callable[[], Awaitable[str]]) -> None:
        async def run() -> None:
            self.positions[name] = await ask()
            self.ended.append(name)

        self._nursery.start_soon(run)
        await trio.sleep(0.1)


async def test_the_owner_goes_first_and_a_forged_claim_gains_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        desk, laptop, forger, honest = await machines(where, ScriptedEngine(MODEL, SLOW, slots=1), "ann", "bob", "cid")
        async with trio.open_nursery() as nursery:
            order = Order(nursery)
            await order.start("first", lambda: send(honest, desk, "cid"))
            await order.start("honest", lambda: send(honest, desk, "cid"))
            await order.start("forged", lambda: send(forger, desk, "ann", Priority.NORMAL))
            await order.start("own", lambda: send(laptop, desk, "ann", Priority.LOW))
            assert [one.owner for _, one in desk.local.waiting()] == [
                "owner:ann", "owner:cid", f"node:{forger.id.text}",
            ]  # fmt: skip
        assert order.ended == ["first", "own", "honest", "forged"]
        assert order.positions == {"first": "0", "honest": "1", "forged": "2", "own": "1"}


async def test_a_node_asks_in_the_name_of_its_certificates_owner(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        desk, laptop, bob = await machines(where, ScriptedEngine(MODEL, SLOW, slots=1), "ann", "bob")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bob.ask_whole, MODEL)
            await trio.sleep(0.1)
            nursery.start_soon(bob.ask_whole, MODEL)
            await trio.sleep(0.1)
            nursery.start_soon(laptop.ask_whole, MODEL)
            await trio.sleep(0.1)
            assert [(one.owner, one.position) for _, one in desk.local.waiting()] == [
                ("owner:ann", 1),
                ("owner:bob", 2),
            ]


async def test_others_never_hold_the_reserved_slot(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, SLOW, slots=2)
        _, laptop, bob = await machines(where, engine, "ann", "bob")
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(bob.ask_whole, MODEL)
            await trio.sleep(0.1)
            assert engine.running == 1
            answer, _ = await laptop.ask_whole(MODEL)
            assert answer.headers["x-meshnode-queue-position"] == "0"


@pytest.mark.parametrize(("foreign_only", "code"), [(True, "not_shared"), (False, "paused")])
async def test_a_pause_refuses_who_waits_lets_run_what_runs_and_is_told(
    tmp_path: Path, autojump_clock: MockClock, foreign_only: bool, code: str
) -> None:
    async with world(tmp_path) as where:
        desk, bob = await machines(where, ScriptedEngine(MODEL, SLOW, slots=1), "bob")
        outcomes: list[str] = []

        async def ask() -> None:
            try:
                await send(bob, desk, "bob")
                outcomes.append("ok")
            except RequestError as error:
                outcomes.append(error.code)

        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(ask)
                await trio.sleep(0.1)
            desk.local.share.pause(foreign_only=foreign_only)
            await wait_all_tasks_blocked()
            await trio.sleep(1)
            assert outcomes == [code]
            with pytest.raises(RequestError, match=r"desk (takes no requests now|serves nobody but ann)"):
                await bob.ask(MODEL)
            assert bob.router.known.breakers.shut_out({MODEL}, trio.current_time()) == set()
        assert outcomes == [code, "ok"]
        if foreign_only:
            assert (await desk.ask_whole(MODEL))[1] == EVENT + LAST
        else:
            with pytest.raises((Paused, NoPeerReachable)):
                await desk.ask(MODEL)
        desk.local.share.resume()
        await trio.sleep(3)
        assert (await bob.ask_whole(MODEL))[1] == EVENT + LAST


async def test_a_machine_that_is_only_for_its_owner_says_so_to_others(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL)
        desk, laptop, bob = await machines(where, engine, "ann", "bob", sharing={"foreign": False})
        assert (await laptop.ask_whole(MODEL))[1] == EVENT + LAST
        for claim in ("bob", "ann", ""):
            with pytest.raises(NotShared, match="only its owner's requests"):
                await send(bob, desk, claim)
        assert engine.served == 1


async def test_full_says_when_to_come_back(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        desk, bob = await machines(where, ScriptedEngine(MODEL, SLOW, slots=1), "bob")
        async with trio.open_nursery() as nursery:
            for _ in range(9):
                nursery.start_soon(send, bob, desk, "bob")
            await trio.sleep(0.1)
            with pytest.raises(Overloaded) as caught:
                await send(bob, desk, "bob")
            assert caught.value.retry_after_s == pytest.approx(9.9, abs=0.2)
            nursery.cancel_scope.cancel()
        await trio.sleep(1)
        assert (desk.local.load(desk.local._engines()[0]).busy, desk.local.waiting()) == (0, [])

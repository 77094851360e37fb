"""An owner's requests that relays can read: first on the owner's machine by the origin's signature, and by no other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from meshnode.dispatch import remote
from meshnode.dispatch.claims import Claims
from meshnode.dispatch.wire import Envelope, envelope_of
from meshnode.errors import BadRequest, NotShared
from meshnode.model.job import Job, Priority, Privacy
from meshnode.trust.claim import LIFETIME_S
from tests.kit.world import EVENT, LAST, Papers, ScriptedEngine, World, WorldNode, world

MODEL = "m"
SLOW: list[bytes | float | Exception] = [10.0, EVENT, LAST]
OPEN = {"mesh": {"relay_class": "open"}}


async def row(where: World, engine: ScriptedEngine, **sharing: object) -> tuple[WorldNode, WorldNode, WorldNode]:
    """Ann's laptop, a relay that is nobody's, and ann's desk behind it."""
    relay = await where.add("relay")
    desk = await where.add(
        "desk", peers=("relay",), engine=engine, listens=False, papers=Papers(owner="ann"),
        settings={"sharing": sharing, "engine": {"queue_min": 8}},
    )  # fmt: skip
    laptop = await where.add(
        "laptop", peers=("relay",), listens=False, papers=Papers(owner="ann"), settings=OPEN
    )  # fmt: skip
    await laptop.until_reachable({"relay", "desk"}, model_of="desk")
    await relay.until_reachable({"laptop", "desk"}, model_of="desk")
    while laptop.id not in desk.member.view().adverts:
        await desk.member.mesh.changed.wait()
    return laptop, relay, desk


class Accounts:
    """On whose account a node's jobs are served, in order."""

    def __init__(self, node: WorldNode, patch: pytest.MonkeyPatch) -> None:
        self.seen: list[str] = []
        account = node.local.share.account

        def seen(job: Job) -> str:
            self.seen.append(account(job))
            return self.seen[-1]

        patch.setattr(node.local.share, "account", seen)


async def test_an_owners_machine_serves_its_owner_over_a_relay_that_can_read(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as where:
        laptop, _, desk = await row(where, ScriptedEngine(MODEL), foreign=False)
        accounts = Accounts(desk, monkeypatch)
        for stream in (True, False):
            answer, body = await laptop.ask_whole(MODEL, stream=stream)
            assert body == EVENT + LAST
            assert answer.headers["x-meshnode-privacy"] == "open"
            assert answer.headers["x-meshnode-path"] == "laptop > relay > desk"
        assert accounts.seen == ["owner:ann"] * 2
        # Without its signature the name is anybody's.
        monkeypatch.setattr(Claims, "made", _nothing)
        with pytest.raises(NotShared):
            await laptop.ask(MODEL)


async def _nothing(*_: object) -> str:
    return ""


async def test_the_owner_goes_first_over_a_relay_that_can_read(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        laptop, relay, desk = await row(where, ScriptedEngine(MODEL, SLOW, slots=1))
        ended: list[str] = []

        async def ask(node: WorldNode) -> None:
            await node.ask_whole(MODEL, timeout_s=600.0)
            ended.append(node.name)

        async with trio.open_nursery() as nursery:
            for node in (relay, relay, laptop):
                nursery.start_soon(ask, node)
                await trio.sleep(0.5)
            assert [one.owner for _, one in desk.local.waiting()] == ["owner:ann", f"node:{relay.id.text}"]
        assert ended == ["relay", "laptop", "relay"]


Change = Callable[[Envelope, bytes], tuple[Envelope, bytes]]


def put(**parts: Any) -> Change:
    return lambda envelope, body: (dataclasses.replace(envelope, **parts), body)


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        (put(), True),
        (lambda envelope, body: (envelope, body + b" "), False),
        (put(id="another.job"), False),
        (put(attempt=2), False),
        (put(route="/v1/completions"), False),
        (put(claim=""), False),
        (put(claim="AAAA"), False),
        (put(owner="bob"), False),
        (put(priority=Priority.HIGH), False),
        (put(priority=Priority.LOW), False),
        (put(remaining_s=3600.0), False),
        (put(remaining_s=5.0), True),
    ],
    ids=[
        "as it was made",
        "body",
        "job",
        "attempt",
        "route",
        "none",
        "nonsense",
        "owner",
        "higher",
        "lower",
        "longer",
        "shorter",
    ],
)
async def test_what_a_relay_makes_of_a_claim_is_the_relays(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, change: Change, counts: bool
) -> None:
    async with world(tmp_path) as where:
        laptop, relay, desk = await row(where, ScriptedEngine(MODEL))
        accounts = Accounts(desk, monkeypatch)
        envelope, body = await claimed(laptop, desk)
        await passed(relay, desk, *change(envelope, body))
        assert accounts.seen == ["owner:ann" if counts else f"node:{relay.id.text}"]


async def claimed(laptop: WorldNode, server: WorldNode) -> tuple[Envelope, bytes]:
    """A job of the laptop's as its first relay gets it."""
    job = dataclasses.replace(laptop.job(MODEL, more=b'"prompt":"hi",'), owner="ann")
    envelope = envelope_of(job, 1, server.id, trio.current_time())
    assert laptop.around.claims is not None
    claim = await laptop.around.claims.made(envelope, job.body)
    assert claim
    return dataclasses.replace(envelope, claim=claim, path=(laptop.id,), hops_left=3), job.body


async def passed(relay: WorldNode, desk: WorldNode, envelope: Envelope, body: bytes) -> None:
    """The relay sends it on."""
    link = relay.member.link(desk.id)
    assert link is not None
    answer = await remote.ask(link, envelope, body, relay.id, "desk", leases=relay.around.leases)
    assert b"".join([chunk async for chunk in answer]) == EVENT + LAST


async def test_a_claim_for_another_server_an_old_one_and_one_of_the_relays_own_count_for_nothing(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as where:
        laptop, relay, desk = await row(where, ScriptedEngine(MODEL))
        accounts = Accounts(desk, monkeypatch)
        envelope, body = await claimed(laptop, relay)
        await passed(relay, desk, dataclasses.replace(envelope, target=desk.id), body)
        envelope, body = await claimed(laptop, desk)
        assert desk.around.claims is not None
        with monkeypatch.context() as later:
            wall = desk.around.claims._wall
            later.setattr(desk.around.claims, "_wall", lambda: wall() + LIFETIME_S + 2)
            await passed(relay, desk, envelope, body)
        envelope, body = await claimed(laptop, desk)
        forger = Claims(laptop.id, relay.home.node_key().sign, lambda: "ann", lambda _: "ann")
        await passed(relay, desk, dataclasses.replace(envelope, claim=await forger.made(envelope, body)), body)
        assert accounts.seen == [f"node:{relay.id.text}"] * 3


async def test_a_claim_that_is_shown_again_counts_no_second_time(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, SLOW)
        laptop, relay, desk = await row(where, engine)
        accounts = Accounts(desk, monkeypatch)
        envelope, body = await claimed(laptop, desk)
        # Cut by the relay, so that the job itself may come again.
        with trio.move_on_after(5.0):
            await passed(relay, desk, envelope, body)
        await engine.until(running=0)
        await passed(relay, desk, envelope, body)
        assert accounts.seen == ["owner:ann", f"node:{relay.id.text}"]
        with pytest.raises(BadRequest):
            await passed(relay, desk, envelope, body)


async def test_a_claim_from_before_a_restart_counts_for_nothing_and_a_clock_that_is_put_back_for_no_longer(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """What has counted is not kept on disk: else a relay could show each again that it saw in the last minutes."""
    now = [1_000_000.0]
    async with world(tmp_path) as where:
        laptop, _, desk = await row(where, ScriptedEngine(MODEL))
        envelope, body = await claimed(laptop, desk)

        def started(node: WorldNode) -> Claims:
            return Claims(node.id, node.home.node_key().sign, lambda: "ann", lambda _: "ann", lambda: now[0])

        async def made() -> Envelope:
            return dataclasses.replace(envelope, claim=await started(laptop).made(envelope, body))

        before = await made()
        assert await started(desk).hold(before, body)
        now[0] += 5.0
        again = started(desk)
        assert not await again.hold(before, body)
        assert await again.hold(await made(), body)
        now[0] -= 3600.0
        envelope = dataclasses.replace(envelope, attempt=2)
        assert await again.hold(await made(), body)


async def test_nobody_signs_or_verifies_but_for_open_relays_and_an_owners_name(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as where:
        laptop, relay, desk = await row(where, ScriptedEngine(MODEL))
        signed: list[str] = []
        for node in (laptop, relay, desk):
            claims = node.around.claims
            assert claims is not None
            sign = claims._sign
            monkeypatch.setattr(
                claims,
                "_sign",
                lambda context, body, name=node.name, sign=sign: signed.append(name) or sign(context, body),
            )
        asked: list[str] = []

        async def hold(claims: Claims, envelope: Envelope, body: bytes) -> bool:
            asked.append(envelope.id)
            return False

        monkeypatch.setattr(Claims, "hold", hold)
        await relay.ask_whole(MODEL)
        await laptop.ask_whole(MODEL, privacy=Privacy.SEALED)
        assert (signed, asked) == ([], [])
        await laptop.ask_whole(MODEL)
        assert (signed, len(asked)) == (["laptop"], 1)


async def test_a_large_body_is_hashed_where_nobody_waits_and_the_claim_is_the_same(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as where:
        laptop, relay, desk = await row(where, ScriptedEngine(MODEL))
        monkeypatch.setattr("meshnode.dispatch.claims.LARGE_BYTES", 10)
        accounts = Accounts(desk, monkeypatch)
        envelope, body = await claimed(laptop, desk)
        await passed(relay, desk, envelope, body)
        assert accounts.seen == ["owner:ann"]

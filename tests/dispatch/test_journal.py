"""What is told of a request afterwards: all that happened, in a time line that adds up, and no word of its text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from meshnode.dispatch.journal import EXCLUSIONS, Journal, report
from meshnode.dispatch.local import LocalAnswer
from meshnode.errors import EngineFailed, NoPeerReachable, RequestError
from meshnode.model.job import Job, Wishes
from tests.kit.world import EVENT, LAST, ScriptedEngine, WorldNode, world
from tests.routing.build import NOTHING, job, router, star


def told(node: WorldNode, request: str = "") -> dict[str, Any]:
    journal = node.dispatcher.journal
    entry = journal.find(request) if request else journal.recent(1)[0]
    assert entry is not None
    return report(entry, node.member.view(), trio.current_time())


def adds_up(found: dict[str, Any]) -> bool:
    line = found["timeline"]
    return round(sum(step["for_s"] for step in line) * 1e6) == round(found["total_s"] * 1e6)


async def test_a_request_is_told_from_plan_to_end(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        bad = ScriptedEngine("m", refuse=EngineFailed("a canary sang"))
        good = ScriptedEngine("m", [2.0, EVENT, 1.0, LAST])
        await where.add("other", engine=good)
        node = await where.add("node", peers=("other",), engine=bad)
        await node.until_reachable({"other"}, model_of="other")
        began = trio.current_time()
        asked = node.job("m", text="a canary sings")
        answer = await node.dispatcher.dispatch(asked)
        assert told(node)["outcome"] == "running"
        assert [data async for data in answer] == [EVENT, LAST]
        found = told(node, asked.id)
        assert found["total_s"] == pytest.approx(trio.current_time() - began, abs=1e-5)
        assert adds_up(found)
        assert [(one["name"], one["why"], one["outcome"]) for one in found["attempts"]] == [
            ("node", "first", "engine_failed"),
            ("other", "retry", "answered"),
        ]
        assert [step["event"] for step in found["timeline"]] == [
            "received", "planned", "asked", "failed", "asked", "answered", "first token", "ended",
        ]  # fmt: skip
        assert (found["outcome"], found["node"], found["chunks"]) == ("ok", "other", 2)
        assert {one["name"] for one in found["plan"]["attempts"]} == {"node", "other"}
        assert "canary" not in json.dumps(found)


async def test_refusals_races_and_clients_that_leave_are_told_too(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        for number, wait_s in enumerate((5.0, 1.0)):
            await where.add(f"s{number}", engine=ScriptedEngine("m", [wait_s, EVENT, 100.0, LAST]))
        node = await where.add("node", peers=("s0", "s1"))
        for name in ("s0", "s1"):
            await node.until_reachable({"s0", "s1"}, model_of=name)
        answer = await node.ask("m", wishes=Wishes(fanout=2))
        await answer.aclose()
        found = told(node)
        assert adds_up(found)
        assert {one["name"]: one["outcome"] for one in found["attempts"]} == {"s0": "let go", "s1": "answered"}
        assert found["outcome"] == "cancelled"
        with pytest.raises(RequestError):
            await node.ask("nothing like it")
        found = told(node)
        assert found["plan"]["refusal"]["code"] == found["outcome"] == "model_not_found"
        assert adds_up(found)


@given(most=st.integers(1, 20), budget=st.integers(1, 60_000), many=st.integers(0, 60), servers=st.integers(3, 30))
def test_it_is_bounded_in_number_and_bytes(most: int, budget: int, many: int, servers: int) -> None:
    journal, made, view = Journal(most, budget), router(), star(servers)
    for number in range(many):
        entry = journal.begin(job(), float(number))
        entry.planned(made.consider(job(), view, NOTHING, Random(1), 0.0), float(number))
        journal.keep(entry)
    assert len(journal) <= most
    assert len(journal) == (1 if many else 0) or journal._bytes <= budget
    kept = journal.recent(most)
    assert journal._bytes == sum(journal._sizes) + sum(entry.whole_size for entry in kept)
    assert [entry for entry, _ in journal._whole] == [entry for entry in reversed(kept) if entry.whole is not None]
    assert [entry.steps[0].at for entry in journal.recent(3)] == [float(n) for n in range(many - 1, -1, -1)][
        : min(3, len(journal))
    ]


@pytest.mark.parametrize(("budget", "listed"), [(1 << 20, 100), (20_000, EXCLUSIONS)])
def test_a_plan_of_many_exclusions_is_kept_whole_while_there_is_room_and_an_error_is_not(
    budget: int, listed: int
) -> None:
    made, view = router(), star(100)
    journal = Journal(1, budget)
    entry = journal.begin(job(), 0.0)
    plan = made.consider(job(needs=frozenset({"vision"})), view, NOTHING, Random(1), 0.0)
    entry.planned(plan, 0.0)
    journal.keep(entry)
    entry.ended(1.0, NoPeerReachable.code)
    assert all(kept is None or kept.refusal is None for kept in (entry.plan, entry.whole))
    found = report(entry, view, 2.0)
    assert len(plan.exclusions) == 100
    assert len(found["plan"]["excluded"]) == listed
    assert found["plan"]["not_listed"] == 100 - listed
    assert found["plan"]["refusal"]["status"] == 400
    assert found["total_s"] == 1.0


def test_everyone_who_was_looked_at_is_told_with_terms_and_of_the_oldest_the_best_only() -> None:
    made, view = router(), star(60)
    journal = Journal(100, 200_000)
    for number in range(10):
        entry = journal.begin(job(), float(number))
        entry.planned(made.consider(job(), view, NOTHING, Random(number), 0.0), float(number))
        journal.keep(entry)
    assert len(journal) == 10
    told = [report(entry, view, 20.0)["plan"] for entry in journal.recent(10)]
    newest, oldest = told[0], told[-1]
    assert newest["eligible"] == oldest["eligible"] == 60
    rows = [*newest["attempts"], *newest["others"], *newest["further"]]
    assert len({row["node"] for row in rows}) == len(rows) == 60
    assert all(row["terms"].keys() == rows[0]["terms"].keys() for row in rows)
    scores = [row["score"] for row in newest["further"]]
    assert scores == sorted(scores)
    assert oldest["further"] == []
    assert [len(plan["others"]) for plan in told] == [8] * 10
    kept = [bool(plan["further"]) for plan in told]
    assert kept == sorted(kept, reverse=True)


async def test_what_a_server_says_of_its_queue_is_bounded(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        await where.add("other", engine=ScriptedEngine("m"))
        node = await where.add("node", peers=("other",))
        await node.until_reachable({"other"}, model_of="other")
        _say(where.nodes["other"], {"x-meshnode-queue-ms": "9" * 5000})
        await node.ask_whole("m")
        assert told(node)["queue_ms"] is None


async def test_a_server_says_nothing_of_what_this_node_did(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        await where.add("other", engine=ScriptedEngine("m"))
        node = await where.add("node", peers=("other",))
        await node.until_reachable({"other"}, model_of="other")
        _say(where.nodes["other"], {"x-meshnode-cache": "replayed", "x-meshnode-hedged": "won", "x-meshnode-new": "1"})
        answer, _ = await node.ask_whole("m")
        assert answer.headers["x-meshnode-queue-position"] == "0"
        assert {"x-meshnode-cache", "x-meshnode-hedged", "x-meshnode-new"}.isdisjoint(answer.headers)


def _say(node: WorldNode, headers: dict[str, str]) -> None:
    """Have the node's answers bear these too."""
    serve = node.local.serve

    async def lie(job: Job, fell_mute: Callable[[], None] | None = None) -> LocalAnswer:
        answer = await serve(job, fell_mute)
        answer.headers = {**answer.headers, **headers}
        return answer

    node.local.serve = lie  # type: ignore[method-assign]

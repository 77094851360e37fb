"""The simulator itself: that it repeats itself, that it can fail, and that it finds the shorter way to fail."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest

from meshnode.dispatch.pursuit import Pursuit
from meshnode.dispatch.pursuit_events import Win
from meshnode.gossip.events import Verdict
from meshnode.gossip.intake import Intake
from meshnode.gossip.own import Own
from meshnode.gossip.table import Standing, Table
from meshnode.routing.eligible import Sifter
from meshnode.slots import Admission
from tests.simulation import faults, world
from tests.simulation.faults import Fault
from tests.simulation.network import KINDS
from tests.simulation.run import Setup, run, shrink

STORMY = faults.read("change@4:1;drop@5+12=0.2;partition@6+8=0.4;crash@7+3:4;replay@8:5;leave@9:6;change@18:2")


def setup(text: str, seed: int = 1, nodes: int = 20) -> Setup:
    return Setup(seed, nodes, tuple(faults.read(text)))


def test_a_scenario_is_written_and_read() -> None:
    for seed in range(200):
        scenario = faults.menu(seed, 50)
        assert faults.read(faults.write(scenario)) == scenario
    assert faults.read("none") == []
    with pytest.raises(ValueError, match="no fault"):
        faults.read("quake@3")


def test_a_seed_decides_everything_whatever_the_hashes_are() -> None:
    script = (
        "from tests.simulation.run import *\n"
        "for seed in (3, 9, 11):\n"
        "    o = run(Setup(seed, 24)); print(o.events, o.frames, sorted(o.bytes.items()), o.trace)"
    )
    said = [_run_apart(script, hashes) for hashes in ("1", "2")]
    assert said[0] == said[1], "the order of a set is no part of a run"
    assert b"fault" in said[0]


def _run_apart(script: str, hashes: str) -> bytes:
    surroundings = {"PYTHONHASHSEED": hashes, "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, env=surroundings, check=True, capture_output=True, timeout=300).stdout


def test_a_calm_mesh_answers_every_job_and_hears_of_a_change() -> None:
    outcome = run(setup("change@4:3"))
    assert outcome.failure == ""
    # What is sensitive needs a server that its node pinned.
    assert set(outcome.outcomes) <= {"ok", "no_eligible_node"}
    assert outcome.outcomes["ok"] > 10
    assert outcome.converged_s[0] is not None
    assert outcome.unseen_s == 0.0


def test_a_change_of_one_whom_all_put_aside_is_not_waited_for() -> None:
    outcome = run(setup("clone@4:6;change@12:6", nodes=12))
    assert outcome.failure == ""
    assert outcome.proofs
    assert outcome.converged_s == []


@pytest.mark.parametrize("ahead", [0, 1, 7])
@pytest.mark.parametrize("weather", ["", ";drop@3+15=0.3;loss@3+15=0.2"])
def test_a_key_that_is_used_twice_is_known_to_all_whatever_the_two_have_counted(ahead: int, weather: str) -> None:
    outcome = run(setup(f"clone@4:6={ahead}{weather}", nodes=12))
    assert outcome.failure == ""
    [proof] = outcome.proofs
    assert proof.startswith("n6 by 12 nodes"), "the one whose key it is among them"


@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("away_s", [0.5, 3.0])
def test_who_lost_count_of_its_starts_is_not_put_aside_and_is_heard_at_once(seed: int, away_s: float) -> None:
    outcome = run(setup(f"forget@4+{away_s}:6;change@{4.2 + away_s}:6", seed, nodes=12))
    assert outcome.failure == ""
    assert outcome.proofs == []
    [heard_s] = outcome.converged_s
    assert heard_s is not None
    assert heard_s < 1.0


def test_what_is_no_more_said_is_not_waited_for() -> None:
    for scenario in ("partition@3+3:1.2;change@4:6;leave@5:6", "partition@3+3:1.2;change@4:6;crash@5+1:6"):
        outcome = run(setup(scenario, nodes=12))
        assert outcome.failure == ""
        assert outcome.converged_s == []


def test_garbage_is_counted_as_garbage() -> None:
    outcome = run(setup("flood@5+5:3=2", nodes=12))
    assert outcome.failure == ""
    assert outcome.bytes["garbage"] > 0
    assert set(outcome.bytes) <= {"garbage", *map(bytes.decode, KINDS)}


def believe_all(self: Intake, *_: Any) -> Verdict:
    return Verdict.GOOD


def newer_always(self: Table, *_: Any) -> Standing:
    return Standing.NEWER


def never_over(self: Table, now: float) -> list[Any]:
    self._wheel.due(now)
    return []


def all_living(self: Table, now: float) -> Any:
    return dict(self._living)


def ignore_leaving(self: Admission, *_: Any) -> None:
    return None


def count_on(self: Own, order: tuple[int, int], now: float) -> bool:
    self._begin(order[0] + 1)
    self._hurry(now, now)
    return True


def let_anybody(self: Sifter, *_: Any) -> None:
    return None


def deliver_each(self: Pursuit, number: int) -> list[Win]:
    return [Win(number)]


MUTANTS: dict[str, tuple[Any, str, Callable[..., Any], str, str]] = {
    "signatures are not checked": (Intake, "_judged", believe_all, "flood@5+5:3=1", "badly signed"),
    "any sequence is accepted": (Table, "standing", newer_always, "replay@5:3;drop@5+9=0.3", "after"),
    "sensitive jobs go anywhere": (Sifter, "_allowed", let_anybody, "none", "the sensitive job"),
    "losers are not dropped": (Pursuit, "_answered", deliver_each, "none", "besides"),
    "who is overtaken for ever counts on for ever": (Own, "overtake", count_on, "clone@5:3=5", "share a key"),
    "slots are not given back": (Admission, "_leave", ignore_leaving, "none", "still holds"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_rule_is_found(name: str) -> None:
    where, rule, broken, scenario, said = MUTANTS[name]
    with mock.patch.object(where, rule, broken):
        outcome = run(setup(scenario, nodes=30))
    assert said in outcome.failure
    assert run(setup(scenario, nodes=30)).failure == "", "and the rule itself holds"


def test_jobs_in_hands_that_do_nothing_go_elsewhere_when_their_leases_run_out() -> None:
    outcome = run(setup("blackhole@0:1.2.3.4.5.6.7.8;slow@5+25:9=1", seed=2))
    assert outcome.failure == ""
    assert outcome.tries["lease ran out"] > 0
    assert outcome.tries["fell quiet"] > 0 < outcome.tries["doubt"]
    assert outcome.tries["racer"] > 0 < outcome.tries["hedge"]


def test_what_lives_too_long_is_found() -> None:
    """A node that never lets adverts end: the dead stay alive."""
    scenario = setup("poweroff@5:3;slow@5+170:4=1", seed=4, nodes=8)
    with mock.patch.object(Table, "expire", never_over), mock.patch.object(Table, "living", all_living):
        outcome = run(scenario)
    assert "dead since" in outcome.failure
    assert run(scenario).failure == ""


@pytest.mark.parametrize("seed", range(5))
def test_a_machine_that_dies_in_silence_is_missed_within_six_seconds_by_nine_others_nearby(seed: int) -> None:
    scenario = tuple(faults.read("poweroff@6.3+40:3"))
    outcome = run(Setup(seed, 10, scenario, jobs_per_s=0.0, until=20.0, latency_s=0.001))
    assert outcome.failure == ""
    assert len(outcome.missed_s) == 9
    assert 1.0 < max(outcome.missed_s) <= 6.0


def test_a_failing_scenario_is_made_as_small_as_it_can_be() -> None:
    guilty = next(fault for fault in STORMY if fault.kind == "replay")

    def fails(tried: Setup) -> bool:
        return guilty in tried.scenario and (tried.until is None or tried.until > guilty.at_s)

    smallest = shrink(Setup(3, 50, tuple(STORMY)), fails)
    assert smallest.scenario == [guilty]
    assert smallest.until == 8.5
    assert "replay@8:5" in smallest.replay


def test_a_fault_that_ends_is_over_at_its_end() -> None:
    assert Fault("cut", 3.0, 2.5, (1, 2)).until == 5.5
    assert Fault("crash", 3.0, None, (1,)).until == 3.0


def test_what_is_kept_once_and_not_carried_in_a_large_mesh_changes_nothing_that_is_measured() -> None:
    scenario = Setup(
        7, 40, tuple(faults.read("partition@4+6=0.3;change@11:3")), jobs_per_s=0.0, refresh_s=8.0, swap_s=600.0
    )
    plain = run(scenario)
    with (
        mock.patch.object(world, "LARGE", 20),
        mock.patch.object(world, "TOLD", 29),
        mock.patch("tests.simulation.run.LARGE", 20),
    ):
        large = run(scenario)
    assert plain.failure == large.failure == ""
    assert large.events < plain.events
    for outcome in (plain, large):
        assert None not in outcome.converged_s + outcome.healed_s
        assert outcome.bytes["adverts"] > 0.7 * outcome.virtual_s * 30 * outcome.expected.adverts_bytes_s
    assert abs(large.bytes.total() / plain.bytes.total() - 1.0) < 0.2

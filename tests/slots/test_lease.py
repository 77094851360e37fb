"""Leases expire once, and only in silence; signs of life come each five seconds in which nothing else is said."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnode.slots.fence import Arrived, Command, Fence, Join, Left, Refuse, Run, Stop
from meshnode.slots.lease import (
    BEAT_S,
    FIRST_BEAT_S,
    LEASE_S,
    LOOK_S,
    QUIET_LOOKS,
    Alive,
    Beat,
    Beats,
    Began,
    Done,
    Expired,
    Gave,
    Heard,
    Leases,
    Look,
    PassedOn,
    Quiet,
    Said,
    Silent,
    Took,
)


def test_a_job_of_which_nothing_is_heard_expires_once() -> None:
    leases = Leases()
    leases.handle(Took(1), 0.0)
    found = {now: leases.handle(Look(), float(now)) for now in range(1, 40)}
    told = {now: commands for now, commands in found.items() if commands}
    assert told == {QUIET_LOOKS: [Quiet(1)], LEASE_S: [Expired(1)]}
    assert leases.next_wakeup() is None


def test_whatever_is_heard_renews_it() -> None:
    leases = Leases()
    leases.handle(Took(1), 0.0)
    for now in range(1, 200):
        if now % 14 == 0:
            leases.handle(Heard(1), float(now))
        assert Expired(1) not in leases.handle(Look(), float(now))


def test_whatever_is_heard_in_time_leaves_no_doubt_and_a_second_silence_a_second() -> None:
    leases, told = Leases(), list[int]()
    leases.handle(Took(1), 0.0)
    for look in range(1, 34):
        if look in (4, 8, 20):
            leases.handle(Heard(1), float(look))
        told += [look for command in leases.handle(Look(), float(look)) if command == Quiet(1)]
    assert told == [8 + QUIET_LOOKS, 20 + QUIET_LOOKS]


def test_a_node_that_stood_still_blames_nobody() -> None:
    leases = Leases()
    leases.handle(Took(1), 0.0)
    assert not leases.handle(Look(), 60.0)
    assert not leases.handle(Look(), 61.0)


def test_a_job_that_says_nothing_else_beats_and_one_that_was_passed_on_only_when_heard_of() -> None:
    beats = Beats()
    beats.handle(Began(1), 0.0)
    beats.handle(Began(2), 0.0)
    beats.handle(PassedOn(2), 0.0)
    for key in (1, 2):
        beats.handle(Said(key), 0.0)
    found: list[tuple[int, int]] = []
    for now in range(1, 21):
        if now == 12:
            beats.handle(Alive(2), 12.0)
        found += [(now, command.key) for command in beats.handle(Look(), float(now)) if isinstance(command, Beat)]
    assert found == [(5, 1), (10, 1), (12, 2), (15, 1), (20, 1)]
    assert BEAT_S * 3 == LEASE_S


def test_until_its_answer_begins_a_job_beats_often_enough_to_leave_no_doubt() -> None:
    beats = Beats()
    beats.handle(Began(1), 0.0)
    looks = [number * LOOK_S for number in range(1, 21)]
    assert [now for now in looks if beats.handle(Look(), now) == [Beat(1)]] == [float(now) for now in range(1, 11)]
    assert FIRST_BEAT_S < QUIET_LOOKS * LOOK_S / 2


def test_an_answer_that_began_and_fell_silent_is_told_once() -> None:
    beats = Beats()
    beats.handle(Began(1, 20.0), 0.0)
    for now in range(1, 100):
        assert Silent(1) not in beats.handle(Look(), float(now))
    beats.handle(Said(1), 100.0)
    told = [now for now in range(101, 200) if Silent(1) in beats.handle(Look(), float(now))]
    assert told == [121]
    beats.handle(Done(1), 200.0)
    assert beats.next_wakeup() is None


KEY = (b"o", "j")


@given(st.lists(st.tuples(st.sampled_from(["send", "frame", "beat", "wait", "late"]), st.integers(1, 4)), max_size=80))
def test_of_all_attempts_one_is_delivered_and_no_older_one_runs_beside_it(steps: list[tuple[str, int]]) -> None:
    """An origin with a lease on each attempt and a server with a fence, whatever is late, lost or comes twice."""
    leases, fence = Leases(), Fence(100, 900.0)
    now, attempt, tickets = 0.0, 0, 0
    running: dict[int, int] = {}
    delivered: set[int] = set()
    expired: set[int] = set()

    def arrive(number: int) -> Command:
        nonlocal tickets
        tickets += 1
        *before, last = fence.handle(Arrived(tickets, KEY, number), now)
        for command in before:
            assert isinstance(command, Stop)
            assert running.pop(command.ticket) < number
            fence.handle(Left(command.ticket, answered=True), now)
        if isinstance(last, Run):
            running[tickets] = number
        if isinstance(last, Join):
            assert running[last.ticket] == number
        return last

    held: int | None = None
    for what, count in steps:
        match what:
            case "send" if held is None:
                attempt += 1
                held = attempt
                leases.handle(Took(attempt), now)
                assert arrive(attempt) == Run()
            case "late" if attempt:
                assert isinstance(arrive(max(1, attempt - count)), Join | Refuse | Run)
            case "frame" if held in running.values():
                delivered.add(held or 0)
                leases.handle(Heard(held or 0), now)
            case "beat" if held is not None:
                leases.handle(Heard(held), now)
            case "wait":
                for _ in range(5 * count):
                    now += 1.0
                    for command in leases.handle(Look(), now):
                        if isinstance(command, Quiet):
                            continue
                        assert command.key == held and command.key not in expired
                        expired.add(command.key)
                        held = None
        assert len(set(running.values())) <= 1
        assert not running or max(running.values()) == attempt
        if delivered:
            break
    if held is not None:
        leases.handle(Gave(held), now)
    assert len(delivered) <= 1 and not delivered & expired
    assert len(leases) == 0

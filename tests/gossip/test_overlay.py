"""Who is dialled, when, and when again."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.config.mesh import MeshSection
from meshnode.gossip.overlay import ASKED_S, STEADY_S, Overlay, is_loopback
from meshnode.gossip.overlay_events import (
    Asked,
    AskToDial,
    Breached,
    Changed,
    Command,
    Condition,
    Dial,
    Failed,
    Forgotten,
    Heard,
    Known,
    Linked,
    Look,
    Looked,
    Redial,
    Requested,
    Shed,
    Tick,
    Unlinked,
)
from meshnode.gossip.targets import DAY_S, DEAD_MAX_S, DEAD_MIN_S, SOON, Key
from meshnode.model.advert import Advert, Neighbour
from meshnode.model.ids import NodeId

HOST, ELSEWHERE = b"here....", b"there..."


def node(number: int) -> NodeId:
    return NodeId(number.to_bytes(32, "big"))


def advert(number: int, *addresses: str, host: bytes = ELSEWHERE, order: tuple[int, int] = (1, 1)) -> Advert:
    return Advert(bytes(node(number)), b"m" * 32, *order, 180, host=host, addresses=addresses)


def overlay(remembered: dict[NodeId, tuple[str, ...]] | None = None, **settings: object) -> Overlay:
    return Overlay(node(0), HOST, MeshSection(**settings), random.Random(1), remembered or {})  # type: ignore[arg-type]


def known(*adverts: Advert) -> Known:
    return Known({NodeId(one.id): one for one in adverts})


def targets(commands: list[Command]) -> list[Key]:
    return [command.target for command in commands if isinstance(command, Dial)]


def run_to(machine: Overlay, now: float, until: float) -> list[tuple[float, Command]]:
    """Every command that falls due by itself, each dial failing at once."""
    said: list[tuple[float, Command]] = []
    pending = machine.handle(Tick(), now)
    while True:
        while pending:
            command = pending.pop(0)
            said.append((now, command))
            if isinstance(command, Dial):
                pending += machine.handle(Failed(command.target), now)
        wakeup = machine.next_wakeup()
        if wakeup is None or wakeup > until:
            return said
        assert wakeup > now
        now = wakeup
        pending = machine.handle(Tick(), now)


def test_named_peers_are_dialled_at_once_and_once() -> None:
    machine = overlay(peers=("a:1", "b:1"))
    assert machine.handle(Tick(), 0.0) == [Dial("a:1", ("a:1",)), Dial("b:1", ("b:1",))]
    assert machine.handle(Tick(), 100.0) == []
    assert machine.next_wakeup() is None


def test_nodes_that_gossip_tells_of_are_dialled_soon() -> None:
    machine = overlay()
    machine.handle(known(advert(1, "a:1")), 0.0)
    assert machine.handle(Tick(), 0.1) == [Dial(node(1), ("a:1",))]


def test_a_linked_node_is_not_dialled_and_is_again_when_the_link_ends() -> None:
    machine = overlay()
    machine.handle(known(advert(1, "a:1")), 0.0)
    machine.handle(Linked(node(1)), 0.0)
    assert machine.handle(Tick(), 50.0) == []
    machine.handle(Unlinked(node(1)), 50.0)
    assert machine.handle(Tick(), 51.0) == [Dial(node(1), ("a:1",))]


def test_a_named_address_that_led_to_a_linked_node_is_not_dialled_again() -> None:
    machine = overlay(peers=("a:1",))
    machine.handle(Tick(), 0.0)
    machine.handle(Linked(node(1), "a:1", "a:1"), 0.0)
    machine.handle(known(advert(1, "a:1")), 1.0)
    assert machine.handle(Tick(), 100.0) == []
    machine.handle(Unlinked(node(1)), 100.0)
    # It is wanted twice, by its address and by its id: one dial is under way at a time.
    assert targets(machine.handle(Tick(), 101.0)) == ["a:1"]
    assert targets(machine.handle(Failed("a:1"), 102.0)) == [node(1)]


def test_no_address_is_dialled_twice_at_once() -> None:
    machine = overlay(peers=("a:1",))
    assert targets(machine.handle(Tick(), 0.0)) == ["a:1"]
    machine.handle(known(advert(1, "a:1"), advert(2, "b:1", "c:1"), advert(3, "c:1")), 0.0)
    first = targets(machine.handle(Tick(), 1.0))
    assert first in ([node(2)], [node(3)])
    assert targets(machine.handle(Failed("a:1"), 1.0)) == [node(1)]
    assert set(targets(machine.handle(Failed(first[0]), 1.0))) == {node(2), node(3)} - set(first)


def test_loopback_is_dialled_only_on_the_same_machine() -> None:
    machine = overlay()
    machine.handle(known(advert(1, "127.0.0.1:1"), advert(2, "127.0.0.1:2", host=HOST)), 0.0)
    assert targets(machine.handle(Tick(), 1.0)) == [node(2)]
    assert is_loopback("[::1]:5") and is_loopback("localhost:1") and not is_loopback("10.0.0.1:5")


def test_learned_addresses_are_left_alone_where_that_is_configured() -> None:
    machine = overlay(dial_learned=False)
    machine.handle(known(advert(1, "a:1")), 0.0)
    machine.handle(Heard("b:1"), 0.0)
    machine.handle(Asked(node(1)), 0.0)
    assert machine.handle(Tick(), 10.0) == []


def test_a_moved_or_restarted_node_is_dialled_without_waiting() -> None:
    machine = overlay()
    machine.handle(known(advert(1, "a:1")), 0.0)
    assert run_to(machine, 1.0, 200.0)
    machine.handle(known(advert(1, "b:1")), 200.0)
    assert machine.handle(Tick(), 200.05) == [Dial(node(1), ("b:1",))]
    machine.handle(Failed(node(1)), 200.1)
    machine.handle(known(advert(1, "b:1", order=(2, 1))), 200.2)
    assert machine.handle(Tick(), 200.25) == [Dial(node(1), ("b:1",))]


def test_a_node_that_said_goodbye_is_not_dialled() -> None:
    machine = overlay()
    machine.handle(known(advert(1, "a:1")), 0.0)
    gone = Advert(bytes(node(1)), b"m" * 32, 1, 2, 180, addresses=("a:1",), gone=True)
    machine.handle(known(gone), 0.01)
    assert machine.handle(Tick(), 10.0) == []


@given(st.integers(0, 2**32), st.integers(1, 12))
@settings(deadline=None, max_examples=100)
def test_waits_grow_with_failures_stay_within_bounds_and_start_anew_after_a_link(seed: int, failures: int) -> None:
    section = MeshSection(peers=("a:1",))
    machine = Overlay(node(0), HOST, section, random.Random(seed))
    now = 0.0
    for count in range(1, failures + 1):
        assert machine.handle(Tick(), now) == [Dial("a:1", ("a:1",))]
        machine.handle(Failed("a:1"), now)
        due = machine.next_wakeup()
        assert due is not None
        ceiling = min(section.redial_max_s, section.redial_min_s * 2**count)
        assert section.redial_min_s <= due - now <= max(section.redial_min_s, ceiling)
        now = due
    machine.handle(Tick(), now)
    machine.handle(Linked(node(1), "a:1"), now)
    ended = now + STEADY_S + 1.0
    machine.handle(Unlinked(node(1)), ended)
    due = machine.next_wakeup()
    assert due is not None and due - ended <= section.redial_min_s


def test_a_peer_that_takes_links_and_drops_them_is_dialled_more_and_more_rarely() -> None:
    machine = overlay()
    machine.handle(known(advert(1, "a:1")), 0.0)
    now, dials = 0.1, 0
    while now < 600.0:
        dials += len(machine.handle(Tick(), now))
        machine.handle(Linked(node(1), node(1), "a:1"), now)
        machine.handle(Unlinked(node(1)), now + 0.1)
        due = machine.next_wakeup()
        assert due is not None
        now = due
    assert dials < 60


def test_links_that_break_together_are_dialled_again_apart() -> None:
    section = MeshSection(full_mesh_nodes=500, dials=16)
    machine = Overlay(node(0), HOST, section, random.Random(3))
    machine.handle(known(*(advert(n, f"10.0.{n}.1:1") for n in range(1, 321))), 0.0)
    for n in range(1, 321):
        machine.handle(Linked(node(n)), 0.0)
    for n in range(1, 321):
        machine.handle(Unlinked(node(n)), 100.0)
    dues = [target.due - 100.0 for target in machine._book.targets.values()]
    assert max(dues) > 10.0
    for second in range(1, 20):
        assert sum(second <= due < second + 1 for due in dues) <= 5 * section.dials


@given(st.booleans(), st.floats(0, 5))
@settings(deadline=None, max_examples=50)
def test_of_two_links_that_crossed_both_ends_keep_the_one_that_the_lower_id_dialled(
    low_first: bool, age_s: float
) -> None:
    low, high = overlay(), Overlay(node(1), HOST, MeshSection(), random.Random(1))
    new_by_low = not low_first
    at_low = low.replaces(node(1), new_by_low, not new_by_low, age_s)
    at_high = high.replaces(node(0), not new_by_low, new_by_low, age_s)
    assert at_low == at_high == new_by_low


def test_a_link_dialled_again_or_much_later_replaces_one_that_died_unseen() -> None:
    low, high = overlay(), Overlay(node(1), HOST, MeshSection(), random.Random(1))
    for machine, peer in ((low, node(1)), (high, node(0))):
        for dialled in (True, False):
            assert machine.replaces(peer, dialled, dialled, 0.0)
            assert machine.replaces(peer, dialled, not dialled, 6.0)


# Remembered, silent and forgotten peers.


def test_remembered_peers_are_dialled_at_once_and_gossip_replaces_what_was_remembered() -> None:
    machine = overlay({node(1): ("a:1", "b:1")})
    assert machine.handle(Tick(), 0.0) == [Dial(node(1), ("a:1", "b:1"))]
    machine.handle(Failed(node(1)), 0.0)
    machine.handle(known(advert(1, "c:1")), 0.1)
    assert machine.handle(Tick(), 0.2) == [Dial(node(1), ("c:1",))]


def test_a_remembered_peer_that_never_answers_is_dropped_after_a_day() -> None:
    machine = overlay({node(1): ("a:1",)})
    said = run_to(machine, 0.0, 2 * DAY_S)
    assert DAY_S - DEAD_MAX_S < said[-1][0] <= DAY_S
    assert machine.next_wakeup() is None and machine.reached() == ()


def test_a_silent_peer_is_tried_for_a_day_more_and_more_rarely() -> None:
    machine = overlay()
    machine.handle(known(advert(1, "a:1")), 0.0)
    machine.handle(Tick(), 0.1)
    machine.handle(Linked(node(1), node(1), "a:1"), 0.2)
    machine.handle(Unlinked(node(1)), 100.0)
    run_to(machine, 100.0, 300.0)
    machine.handle(known(), 300.0)
    times = [at for at, _ in run_to(machine, 300.0, 300.0 + 2 * DAY_S)]
    gaps = [after - before for before, after in pairwise(times)][1:]
    assert min(gaps) >= DEAD_MIN_S and max(gaps) <= DEAD_MAX_S
    assert 300.0 + DAY_S - DEAD_MAX_S <= times[-1] <= 300.0 + DAY_S
    assert 100 < len(times) < 600


@pytest.mark.parametrize("said_first", [True, False], ids=["goodbye, end of the link", "end of the link, goodbye"])
def test_a_peer_that_said_goodbye_is_tried_soon_and_then_rarely(said_first: bool) -> None:
    """Most are back at once, started anew, and may have no other way to us than our dialling them."""
    machine = overlay()
    machine.handle(known(advert(1, "a:1")), 0.0)
    machine.handle(Tick(), 0.1)
    machine.handle(Linked(node(1), node(1), "a:1"), 0.2)
    for event in (known(), Unlinked(node(1))) if said_first else (Unlinked(node(1)), known()):
        machine.handle(event, 100.0)
    times = [at for at, _ in run_to(machine, 100.0, 100.0 + 2 * DAY_S)]
    gaps = [after - before for before, after in pairwise(times)]
    assert times[2] <= 104.0 and max(gaps[:SOON]) <= DEAD_MIN_S
    assert min(gaps[SOON:]) >= DEAD_MIN_S and max(gaps) <= DEAD_MAX_S
    assert 100 < len(times) < 600


def test_a_silent_peer_that_answers_is_known_again_when_gossip_comes() -> None:
    machine = overlay()
    machine.handle(known(advert(1, "a:1")), 0.0)
    machine.handle(Tick(), 0.1)
    machine.handle(Failed(node(1)), 0.2)
    machine.handle(known(), 0.3)
    assert machine.handle(Tick(), 100.0) == [Dial(node(1), ("a:1",))]
    machine.handle(Linked(node(1), node(1), "a:1"), 100.0)
    machine.handle(known(advert(1, "a:1", order=(1, 9))), 100.1)
    machine.handle(Unlinked(node(1)), 200.0)
    assert machine.handle(Tick(), 200.5) == [Dial(node(1), ("a:1",))]


def test_a_forgotten_peer_is_dialled_when_it_says_something_new_and_not_before() -> None:
    machine = overlay()
    machine.handle(known(advert(1, "a:1", order=(1, 5))), 0.0)
    machine.handle(Forgotten(node(1)), 0.01)
    machine.handle(known(advert(1, "a:1", order=(1, 5))), 1.0)
    machine.handle(Asked(node(1)), 1.0)
    assert machine.handle(Tick(), 10.0) == [] and machine.reached() == ()
    machine.handle(known(advert(1, "a:1", order=(1, 6))), 11.0)
    assert targets(machine.handle(Tick(), 12.0)) == [node(1)]


def test_the_address_that_worked_last_comes_first_until_all_of_them_fail() -> None:
    machine = overlay()
    machine.handle(known(advert(1, "a:1", "b:1")), 0.0)
    machine.handle(Tick(), 0.1)
    machine.handle(Linked(node(1), node(1), "b:1"), 0.1)
    assert machine.reached() == ((node(1), ("b:1", "a:1")),)
    machine.handle(Unlinked(node(1)), 50.0)
    assert machine.handle(Tick(), 51.0) == [Dial(node(1), ("b:1", "a:1"))]
    machine.handle(Failed(node(1)), 52.0)
    assert machine.handle(Tick(), 60.0) == [Dial(node(1), ("a:1", "b:1"))]


def test_where_an_accepted_link_came_from_is_one_more_candidate_with_the_port_that_is_advertised() -> None:
    machine = overlay()
    machine.handle(Linked(node(1), host="192.168.7.7"), 0.0)
    machine.handle(known(advert(1, "10.1.1.1:7000")), 0.0)
    machine.handle(Unlinked(node(1)), 100.0)
    assert machine.handle(Tick(), 101.0) == [Dial(node(1), ("10.1.1.1:7000", "192.168.7.7:7000"))]
    # One that does not listen has no port, and no candidate.
    machine.handle(Linked(node(2), host="192.168.7.8"), 101.0)
    machine.handle(known(advert(1, "10.1.1.1:7000"), advert(2)), 101.0)
    machine.handle(Unlinked(node(2)), 200.0)
    assert node(2) not in targets(machine.handle(Tick(), 230.0))


def test_peers_worth_remembering_are_those_linked_now_then_those_linked_before() -> None:
    machine = overlay({node(3): ("c:1",)})
    machine.handle(known(advert(1, "a:1"), advert(2, "b:1")), 0.0)
    machine.handle(Linked(node(1)), 0.0)
    machine.handle(Linked(node(2)), 1.0)
    machine.handle(Unlinked(node(2)), 20.0)
    assert [peer for peer, _ in machine.reached()] == [node(1), node(2), node(3)]


# Quarantine.


def test_a_peer_that_broke_the_protocol_is_not_dialled_until_it_is_free() -> None:
    machine = overlay(peers=("a:1",), quarantine_s=60.0)
    machine.handle(Tick(), 0.0)
    machine.handle(Linked(node(1), "a:1", "a:1"), 0.0)
    machine.handle(known(advert(1, "a:1")), 0.0)
    machine.handle(Breached(node(1)), 20.0)
    machine.handle(Unlinked(node(1)), 20.0)
    machine.handle(Redial("moved"), 30.0)
    machine.handle(Asked(node(1)), 31.0)
    assert machine.handle(Tick(), 79.9) == []
    assert machine.shut_out(node(1), 79.0) == 1.0 and machine.shut_out(node(1), 80.0) is None
    assert machine.next_wakeup() == 80.0
    assert targets(machine.handle(Tick(), 80.0)) == ["a:1"]


def test_a_named_address_where_a_shut_out_peer_answered_waits_with_it() -> None:
    machine = overlay(peers=("a:1",))
    assert targets(machine.handle(Breached(node(1)), 0.0)) == ["a:1"]
    machine.handle(Failed("a:1", node(1)), 0.0)
    assert machine.next_wakeup() == 60.0


# Hints.


def test_a_hint_is_dialled_and_has_done_its_work_when_it_leads_to_a_known_peer() -> None:
    machine = overlay()
    assert machine.handle(Heard("10.0.0.5:6375"), 0.0) == [Dial("10.0.0.5:6375", ("10.0.0.5:6375",))]
    machine.handle(Linked(node(1), "10.0.0.5:6375", "10.0.0.5:6375"), 0.1)
    assert "10.0.0.5:6375" in machine._book.targets
    machine.handle(known(advert(1, "10.0.0.5:6375")), 0.2)
    assert list(machine._book.targets) == [node(1)]
    assert machine.handle(Heard("10.0.0.5:6375"), 1.0) == [] and list(machine._book.targets) == [node(1)]


def test_a_hint_is_dropped_after_three_failures_and_is_no_news_for_a_while() -> None:
    machine = overlay()
    machine.handle(Heard("10.0.0.5:6375"), 0.0)
    machine.handle(Failed("10.0.0.5:6375"), 0.0)
    said = run_to(machine, 0.0, 1000.0)
    assert len(said) == 2 and machine._book.targets == {} and machine._book.behind == {}
    assert machine.handle(Heard("10.0.0.5:6375"), said[-1][0] + 1.0) == []
    assert len(machine.handle(Heard("10.0.0.5:6375"), said[-1][0] + 100.0)) == 1


def test_a_hint_never_heard_again_is_dropped() -> None:
    machine = overlay(dials=1, peers=("a:1",))
    machine.handle(Tick(), 0.0)
    machine.handle(Heard("10.0.0.5:6375"), 0.0)
    machine.handle(Tick(), 3601.0)
    assert list(machine._book.targets) == ["a:1"]


def test_this_node_and_this_machine_are_no_hints() -> None:
    machine = overlay()
    machine.handle(known(advert(0, "10.0.0.9:1")), 0.0)
    for address in ("10.0.0.9:1", "127.0.0.1:1", "0.0.0.0:1", "no address", "x" * 200 + ":1", ":6375", "a:0"):
        assert machine.handle(Heard(address), 0.0) == []
    assert machine._book.targets == {}


def test_twenty_thousand_hints_cost_bounded_memory_and_few_dials() -> None:
    machine = overlay(hints=256, hints_per_s=5, dials=16, peers=("named:1",))
    now, dials, flying = 0.0, 0, []
    for number in range(20_000):
        now += 0.01
        for command in machine.handle(Heard(f"10.{number >> 8}.{number & 255}.1:6375"), now):
            assert isinstance(command, Dial)
            dials += 1
            flying.append(command.target)
        hints = sum(isinstance(key, str) and key != "named:1" for key in machine._book.targets)
        assert hints <= 256
        assert len(machine._dialling.flights._under_way) <= 1 + 16 // 4
        if number % 50 == 0:
            for target in flying:
                machine.handle(Failed(target), now)
            flying.clear()
    assert dials <= 3 * (5 * now + 5)
    assert len(machine._dialling.hints._failed) <= 256 and len(machine._book.behind) == 0


def test_a_full_table_of_hints_gives_the_place_of_the_one_that_failed_most() -> None:
    machine = overlay(hints=2, hints_per_s=100)
    for target in targets([*machine.handle(Heard("10.0.0.1:1"), 0.0), *machine.handle(Heard("10.0.0.2:1"), 0.0)]):
        if target == "10.0.0.1:1":
            machine.handle(Failed(target), 0.0)
    machine.handle(Heard("10.0.0.3:1"), 1.0)
    assert set(machine._book.targets) == {"10.0.0.2:1", "10.0.0.3:1"}
    machine.handle(Heard("10.0.0.4:1"), 2.0)
    assert "10.0.0.4:1" not in machine._book.targets


# Asking and being asked.


def test_a_peer_without_an_address_is_asked_to_dial_with_back_off() -> None:
    machine = overlay()
    machine.handle(Linked(node(2)), 0.0)
    machine.handle(known(advert(0, "me:1"), advert(1), advert(2, "b:1")), 0.0)
    times = [at for at, command in run_to(machine, 0.0, 3600.0) if command == AskToDial(node(1))]
    assert 5.0 <= times[0] <= 6.0
    assert all(5.0 <= after - before <= 601.0 for before, after in pairwise(times))
    assert 5 < len(times) < 60


def test_a_peer_whose_addresses_fail_is_asked_after_the_second_time() -> None:
    machine = overlay()
    machine.handle(Linked(node(2)), 0.0)
    machine.handle(known(advert(0, "me:1"), advert(1, "a:1"), advert(2, "b:1")), 0.0)
    said = [command for _, command in run_to(machine, 0.1, 20.0)]
    assert said.index(AskToDial(node(1))) >= 2


def test_nobody_is_asked_who_could_not_dial_or_by_nobody_who_could_carry_the_question() -> None:
    unreachable = overlay()
    unreachable.handle(Linked(node(2)), 0.0)
    unreachable.handle(known(advert(0), advert(1), advert(2)), 0.0)
    assert run_to(unreachable, 0.0, 1000.0) == []
    elsewhere = overlay()
    elsewhere.handle(Linked(node(2)), 0.0)
    elsewhere.handle(known(advert(0, "127.0.0.1:1", host=HOST), advert(1)), 0.0)
    assert run_to(elsewhere, 0.0, 1000.0) == []
    alone = overlay()
    alone.handle(known(advert(0, "me:1"), advert(1)), 0.0)
    assert run_to(alone, 0.0, 1000.0) == []
    shut_out = overlay(quarantine_s=500.0)
    shut_out.handle(Linked(node(2)), 0.0)
    shut_out.handle(Breached(node(1)), 0.0)
    shut_out.handle(known(advert(0, "me:1"), advert(1)), 0.0)
    assert run_to(shut_out, 0.0, 400.0) == []


def test_whoever_asks_is_dialled_at_once_but_not_again_and_again() -> None:
    machine = overlay()
    machine.handle(known(advert(1, "a:1")), 0.0)
    machine.handle(Tick(), 0.1)
    for _ in range(5):
        machine.handle(Failed(node(1)), 1.0)
    assert machine.handle(Asked(node(1)), 1.1) == [Dial(node(1), ("a:1",))]
    for _ in range(5):
        machine.handle(Failed(node(1)), 1.2)
    assert machine.handle(Asked(node(1)), 1.0 + ASKED_S) == []
    assert machine.handle(Asked(node(1)), 1.2 + ASKED_S) == [Dial(node(1), ("a:1",))]
    machine.handle(Linked(node(1), node(1), "a:1"), 12.0)
    assert machine.handle(Asked(node(1)), 30.0) == []


def test_in_a_large_mesh_whoever_asks_is_dialled_for_that_once() -> None:
    machine = overlay(full_mesh_nodes=1, active_links=0)
    machine.handle(known(advert(1, "a:1"), advert(2, "b:1")), 0.0)
    assert machine.handle(Tick(), 10.0) == []
    assert machine.handle(Asked(node(1)), 10.0) == [Dial(node(1), ("a:1",))]
    machine.handle(Failed(node(1)), 11.0)
    assert machine._book.targets == {}


def test_a_changed_address_of_this_machine_resets_every_back_off() -> None:
    machine = overlay(peers=("a:1",))
    run_to(machine, 0.0, 0.0)
    machine.handle(known(advert(1, "b:1")), 0.0)
    run_to(machine, 0.0, 300.0)
    machine.handle(Redial("eth0 has another address"), 300.0)
    assert set(targets(machine.handle(Tick(), 301.0))) == {"a:1", node(1)}


# Large meshes; what they look like as a whole is in test_overlay_large.py.


def wide(count: int = 100, **settings: object) -> Overlay:
    """An overlay that knows of `count` nodes and has the links it chose."""
    machine = overlay(**settings)
    near = tuple(Neighbour(bytes(node(n)), 1) for n in range(5))
    said: dict[NodeId, Advert | None] = {
        node(n): Advert(bytes(node(n)), b"m" * 32, 1, 1, 180, addresses=(f"10.0.{n}.1:1",), neighbours=near)
        for n in range(count)
    }
    for command in [*machine.handle(Changed(said), 0.0), *machine.handle(Tick(), 0.1)]:
        if isinstance(command, Dial) and isinstance(command.target, NodeId):
            machine.handle(Linked(command.target, command.target, command.addresses[0]), 0.2)
    return machine


def node_of(dial: Dial) -> NodeId:
    assert isinstance(dial.target, NodeId)
    return dial.target


def looked(machine: Overlay, now: float, busy: frozenset[NodeId] = frozenset()) -> list[Command]:
    links = {peer: Condition(0.01, int(peer in busy)) for peer in machine._near.linked}
    return machine.handle(Looked(links), now)


def test_in_a_large_mesh_few_are_dialled_and_news_of_others_is_nothing() -> None:
    machine = wide()
    assert len(machine._near.linked) == 4 and len(machine._book.targets) == 4
    far = next(node(n) for n in range(1, 100) if node(n) not in machine._near.views.passive)
    now = 0.3
    while len(machine._near.linked) < 8:
        now += 1.0
        for command in machine.handle(Tick(), now):
            assert isinstance(command, Dial)
            machine.handle(Linked(node_of(command), command.target), now)
    assert machine.handle(Changed({far: advert(int.from_bytes(far, "big"), "z:1", order=(1, 2))}), 20.0) == []
    assert machine.handle(Changed({far: None}), 20.0) == [] and far not in machine._book.targets


def test_a_whole_table_and_what_changed_of_it_say_the_same() -> None:
    one, two = overlay(), overlay()
    table = {node(n): advert(n, f"10.0.{n}.1:1") for n in range(1, 60)}
    assert one.handle(Known(table), 0.0) == two.handle(Changed(table), 0.0)
    later = {n: a for n, a in table.items() if n != node(7)} | {node(3): advert(3, "10.9.9.9:1", order=(2, 1))}
    assert one.handle(Known(later), 1.0) == two.handle(Changed({node(3): later[node(3)], node(7): None}), 1.0)
    assert one._book.targets == two._book.targets and one._book.adverts == two._book.adverts == later


def test_a_peer_that_is_asked_often_over_relays_gets_a_link_of_its_own_until_it_is_asked_no_more() -> None:
    machine = wide()
    far = next(node(n) for n in range(1, 100) if node(n) not in machine._book.targets)
    said = [machine.handle(Requested(far), 10.0 + n) for n in range(10)]
    assert said[:9] == [[]] * 9 and far in targets(said[9])
    machine.handle(Linked(far, far, "10.0.0.1:1"), 20.0)
    machine.handle(Requested(far), 500.0)
    assert Shed(far, 30.0) not in looked(machine, 1000.0)
    assert Shed(far, 30.0) not in looked(machine, 1101.0, frozenset({far}))
    assert Shed(far, 30.0) in looked(machine, 1131.0)
    machine.handle(Unlinked(far), 1132.0)
    assert far not in machine._book.targets and far not in machine._near.heat


def test_a_hot_peer_is_dialled_and_asked_to_dial_until_nothing_is_known_of_it() -> None:
    machine = wide()
    far = next(node(n) for n in range(1, 100) if node(n) not in machine._book.targets)
    assert [far in targets(machine.handle(Requested(far), 10.0)) for _ in range(10)] == [False] * 9 + [True]
    machine.handle(Failed(far), 10.1)
    said = [command for _, command in run_to(machine, 10.2, 60.0)]
    assert AskToDial(far) in said
    machine.handle(Forgotten(far), 60.0)
    machine.handle(Changed({far: advert(int.from_bytes(far, "big"), "10.7.7.7:1", order=(1, 2))}), 61.0)
    assert far not in machine._book.targets


def test_links_are_looked_at_and_one_is_exchanged_for_another() -> None:
    machine = wide(swap_s=30.0, swap_nodes=101)
    for number in range(200, 206):
        machine.handle(Linked(node(number), host="10.5.5.5"), 0.5)
    at = machine.next_wakeup()
    assert at is not None and 24.0 <= at <= 36.0
    assert Look() in machine.handle(Tick(), at)
    commands = [*looked(machine, at), *machine.handle(Tick(), at + 0.1)]
    (dial,) = (command for command in commands if isinstance(command, Dial))
    machine.handle(Linked(node_of(dial), dial.target), at)
    anchors = list(machine._near.views.chosen)[:2]
    (shed,) = (command for command in looked(machine, at + 31.0) if isinstance(command, Shed))
    assert shed.peer in machine._near.linked and shed.peer not in anchors and shed.peer != dial.target
    machine.handle(Unlinked(shed.peer), at + 32.0)
    assert shed.peer not in targets(machine.handle(Tick(), at + 33.0))


def test_a_mesh_exchanges_no_more_links_in_all_as_it_grows() -> None:
    """Each node's share of the exchanges is one in so many as the mesh is larger than `swap_nodes`."""

    def exchanges(count: int) -> int:
        machine, begun = wide(count), 0
        for turn in range(1, 401):
            chosen = set(machine._near.views.chosen)
            for command in looked(machine, at := 40.0 * turn):
                if isinstance(command, Shed):
                    machine.handle(Unlinked(command.peer), at)
                elif isinstance(command, Dial):
                    machine.handle(Linked(node_of(command), node_of(command), command.addresses[0]), at)
            begun += bool(set(machine._near.views.chosen) - chosen)
        return begun

    few, many = exchanges(40), exchanges(160)
    assert 400 * 16 / 40 * 0.6 < few < 400 * 16 / 40 * 1.4
    assert 400 * 16 / 160 * 0.5 < many < 400 * 16 / 160 * 1.7


def test_a_chosen_one_that_parts_is_left_in_peace_and_one_whose_link_broke_is_dialled_again() -> None:
    machine = wide()
    parted, broken = list(machine._near.views.chosen)[:2]
    machine.handle(Unlinked(parted, parted=True), 50.0)
    machine.handle(Unlinked(broken), 50.0)
    said = [command.target for _, command in run_to(machine, 50.0, 52.0) if isinstance(command, Dial)]
    assert broken in said and parted not in said


def test_a_named_peer_that_parts_is_left_in_peace_unless_there_is_no_other() -> None:
    machine = wide(peers=("named:1",))
    machine.handle(Linked(node(500), "named:1", "named:1"), 1.0)
    machine.handle(Unlinked(node(500), parted=True), 50.0)
    assert all(command.target != "named:1" for _, command in run_to(machine, 50.0, 600.0) if isinstance(command, Dial))
    machine.handle(Linked(node(500), "named:1", "named:1"), 700.0)
    machine.handle(Unlinked(node(500), parted=True), 750.0)
    for peer in list(machine._near.linked):
        machine.handle(Unlinked(peer), 760.0)
    assert "named:1" in [c.target for _, c in run_to(machine, 760.0, 762.0) if isinstance(c, Dial)]


def test_a_hint_of_a_node_that_gossip_tells_of_is_not_dialled_in_a_large_mesh() -> None:
    machine = wide()
    assert machine.handle(Heard("10.0.77.1:1"), 5.0) == []
    assert targets(machine.handle(Heard("10.1.77.1:1"), 5.0)) == ["10.1.77.1:1"]
    machine.handle(Linked(node(77), "10.1.77.1:1", "10.1.77.1:1"), 5.1)
    assert "10.1.77.1:1" not in machine._book.targets


def test_anchors_of_an_earlier_run_are_chosen_again_and_other_remembered_ones_are_not() -> None:
    remembered = {node(n): (f"10.0.{n}.1:1",) for n in range(1, 21)}
    machine = overlay(remembered)
    first = targets(machine.handle(Tick(), 0.0))
    assert first == [node(1), node(2), node(3), node(4)]
    for peer in first:
        machine.handle(Linked(peer, peer), 0.05)
    machine.handle(known(*(advert(n, f"10.0.{n}.1:1") for n in range(1, 60))), 0.1)
    assert list(machine._near.views.chosen)[:2] == [node(1), node(2)]
    assert not {node(3), node(4)} & set(machine._near.views.chosen)
    assert all(peer in machine._near.views.chosen for peer in machine._book.targets)

"""Who is dialled, and when again."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.config.mesh import MeshSection
from meshnode.gossip.overlay import Dial, Failed, Known, Linked, Overlay, Tick, Unlinked, is_loopback
from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId

HOST, ELSEWHERE = b"here....", b"there..."


def node(number: int) -> NodeId:
    return NodeId(number.to_bytes(32, "big"))


def advert(number: int, *addresses: str, host: bytes = ELSEWHERE) -> Advert:
    return Advert(bytes(node(number)), b"m" * 32, 1, 1, 180, host=host, addresses=addresses)


def overlay(**settings: object) -> Overlay:
    return Overlay(node(0), HOST, MeshSection(**settings), random.Random(1))  # type: ignore[arg-type]


def known(*adverts: Advert) -> Known:
    return Known({NodeId(one.id): one for one in adverts})


def test_explicit_peers_are_dialled_at_once_and_once() -> None:
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


def test_an_explicit_address_that_led_to_a_linked_node_is_not_dialled_again() -> None:
    machine = overlay(peers=("a:1",))
    machine.handle(Tick(), 0.0)
    machine.handle(Linked(node(1), "a:1"), 0.0)
    machine.handle(known(advert(1, "a:1")), 1.0)
    assert machine.handle(Tick(), 100.0) == []
    machine.handle(Unlinked(node(1)), 100.0)
    assert {dial.target for dial in machine.handle(Tick(), 101.0)} == {"a:1", node(1)}


def test_loopback_is_dialled_only_on_the_same_machine() -> None:
    machine = overlay()
    machine.handle(known(advert(1, "127.0.0.1:1"), advert(2, "127.0.0.1:2", host=HOST)), 0.0)
    assert [dial.target for dial in machine.handle(Tick(), 1.0)] == [node(2)]
    assert is_loopback("[::1]:5") and is_loopback("localhost:1") and not is_loopback("10.0.0.1:5")


def test_learned_addresses_are_left_alone_where_that_is_configured() -> None:
    machine = overlay(dial_learned=False)
    machine.handle(known(advert(1, "a:1")), 0.0)
    assert machine.handle(Tick(), 10.0) == []


def test_a_moved_node_is_dialled_where_it_is_now() -> None:
    machine = overlay()
    machine.handle(known(advert(1, "a:1")), 0.0)
    machine.handle(Tick(), 1.0)
    machine.handle(Failed(node(1)), 1.0)
    assert machine.handle(known(advert(1, "b:1")), 1.1) == [Dial(node(1), ("b:1",))]


def test_a_node_that_gossip_forgets_is_forgotten() -> None:
    machine = overlay()
    machine.handle(known(advert(1, "a:1")), 0.0)
    machine.handle(known(), 0.01)
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
    machine.handle(Unlinked(node(1)), now)
    due = machine.next_wakeup()
    assert due is not None and due - now <= section.redial_min_s


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

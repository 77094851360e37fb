"""The sample of nodes to choose from."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.gossip.passive import CROWD, Groups, Passive
from meshnode.model.ids import NodeId


def node(number: int) -> NodeId:
    return NodeId(number.to_bytes(32, "big"))


def apart(number: int) -> Groups:
    return (f"10.0.{number}.0/24", b"")


class Plain:
    """The definition, recomputed at every step: who gives way is the largest by failures, crowded network, rank, id."""

    def __init__(self, most: int, rank: Callable[[NodeId], int]) -> None:
        self.most, self.rank = most, rank
        self.held: dict[NodeId, tuple[Groups, int]] = {}

    def key(self, node: NodeId, among: dict[NodeId, tuple[Groups, int]]) -> tuple[int, bool, int, NodeId]:
        groups, failures = among[node]
        alike = sum(other[0] == groups[0] for other, _ in among.values())
        return (failures, alike > CROWD and groups[0] != "", self.rank(node), node)

    def offer(self, node: NodeId, groups: Groups) -> None:
        if node in self.held:
            if self.held[node][0] != groups:
                self.held[node] = (groups, self.held[node][1])
        elif len(self.held) < self.most:
            self.held[node] = (groups, 0)
        else:
            last = max(self.held, key=lambda other: self.key(other, self.held))
            after = {other: what for other, what in self.held.items() if other != last} | {node: (groups, 0)}
            if self.key(node, after) < self.key(last, self.held):
                self.held = after


def offer(passive: Passive, number: int, groups: Groups | None = None) -> bool:
    return passive.offer(node(number), lambda: groups if groups is not None else apart(number))


def test_it_is_bounded_and_every_node_is_as_likely_however_often_and_early_it_tells() -> None:
    counts: Counter[NodeId] = Counter()
    for seed in range(200):
        passive = Passive(8, random.Random(seed))
        for number in range(80):
            for _ in range(1 if number < 40 else 5):
                offer(passive, number)
        assert len(passive) == 8
        counts.update(passive)
    loud = sum(counts[node(number)] for number in range(40, 80))
    assert 0.4 < loud / counts.total() < 0.6 and max(counts.values()) < 60


@given(st.integers(0, 2**32), st.permutations(range(30)))
@settings(deadline=None, max_examples=50)
def test_the_order_of_the_news_does_not_matter(seed: int, order: list[int]) -> None:
    one, two = Passive(6, random.Random(seed)), Passive(6, random.Random(seed))
    for number in order:
        offer(one, number)
    for number in range(30):
        offer(two, number)
    assert set(one) == set(two)


_PLACES = ("", "a", "a", "a", "b")
_STEPS = st.tuples(
    st.sampled_from(("offer", "offer", "offer", "failed", "worked", "moved", "discard", "undiallable")),
    st.integers(0, 40),
    st.sampled_from(_PLACES),
)


@given(st.integers(0, 2**32), st.sampled_from((1, 12, 24)), st.lists(_STEPS, min_size=40, max_size=150))
@settings(deadline=None, max_examples=100)
def test_whoever_gives_way_is_the_last_by_the_plain_definition(
    seed: int, most: int, steps: list[tuple[str, int, str]]
) -> None:
    passive = Passive(most, random.Random(seed))
    plain = Plain(most, passive._rank)
    for what, number, place in steps:
        who = node(number)
        match what:
            case "offer":
                offer(passive, number, (place, b""))
                plain.offer(who, (place, b""))
            case "failed":
                passive.failed(who)
                if who in plain.held:
                    plain.held[who] = (plain.held[who][0], plain.held[who][1] + 1)
            case "worked" | "moved":
                passive.worked(who, place if what == "moved" else None)
                if who in plain.held:
                    plain.held[who] = ((place, b"") if what == "moved" else plain.held[who][0], 0)
            case "discard":
                passive.discard(who)
                plain.held.pop(who, None)
            case "undiallable" if who in plain.held:
                passive.offer(who, lambda: None)
                del plain.held[who]
        assert {held: (passive.groups(held), passive.failures(held)) for held in passive} == plain.held
        assert [held for _, held in passive._order] == sorted(plain.held, key=lambda held: plain.key(held, plain.held))


def test_one_network_crowds_the_sample_only_where_there_are_no_others() -> None:
    passive = Passive(32, random.Random(1))
    for number in range(1000):
        offer(passive, number, ("10.6.6.0/24", b""))
    assert len(passive) == 32
    for number in range(1000, 1100):
        offer(passive, number)
    inside = sum(passive.groups(found)[0] == "10.6.6.0/24" for found in passive)
    assert inside <= CROWD


def test_one_that_failed_gives_way_to_any_that_was_never_tried() -> None:
    passive = Passive(4, random.Random(1))
    for number in range(4):
        offer(passive, number)
        passive.failed(node(number))
    assert all(offer(passive, number) for number in range(4, 8))
    assert set(passive) == {node(number) for number in range(4, 8)}


def test_whoever_cannot_be_dialled_any_more_is_gone_and_who_moved_is_elsewhere() -> None:
    passive = Passive(4, random.Random(1))
    offer(passive, 1)
    offer(passive, 1, ("elsewhere", b"who"))
    assert passive.groups(node(1)) == ("elsewhere", b"who")
    passive.failed(node(1))
    assert passive.failures(node(1)) == 1
    passive.worked(node(1), "found")
    assert passive.failures(node(1)) == 0 and passive.groups(node(1)) == ("found", b"who")
    passive.offer(node(1), lambda: None)
    assert node(1) not in passive and not passive.discard(node(1)) and not passive._networks


def test_where_a_node_is_is_not_looked_at_when_it_cannot_get_in() -> None:
    passive = Passive(8, random.Random(1))
    looked = 0

    def groups() -> Groups:
        nonlocal looked
        looked += 1
        return ("", b"")

    for number in range(5000):
        passive.offer(node(number), groups)
    # The expected number of records: 8 (1 + ln(5000 / 8)).
    assert looked < 120
    passive.clear()
    assert len(passive) == 0

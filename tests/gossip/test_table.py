from __future__ import annotations

import itertools
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from meshnode.config.gossip import GossipSection
from meshnode.gossip.digest import Digests
from meshnode.gossip.table import Standing, State, Table
from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId
from tests.gossip.world import MESH, node_id, signed

NODES = [node_id(n) for n in range(4)]
Item = tuple[Advert, float]


def advert(node: NodeId, incarnation: int, sequence: int, *, gone: bool = False, lifetime_s: int = 180) -> Advert:
    """What an honest node says under an order is a function of the order."""
    return Advert(node, MESH, incarnation, sequence, lifetime_s, name=f"{incarnation}.{sequence}", gone=gone)


@st.composite
def items(draw: st.DrawFn) -> Item:
    incarnation, sequence = draw(st.integers(1, 3)), draw(st.integers(0, 3))
    gone = (incarnation, sequence) in ((1, 3), (3, 2))
    return advert(draw(st.sampled_from(NODES)), incarnation, sequence, gone=gone), draw(st.integers(0, 180))


def table(merged: Iterable[Item], now: float = 1000.0, **section: int) -> Table:
    made = Table(GossipSection(**section))
    for said, left_s in merged:
        made.merge(said, signed(said), left_s, now)
    return made


def state(of: Table, now: float = 1000.0) -> object:
    entries = [(n, e.order, e.state, e.until, e.signed) for n in NODES if (e := of.get(n)) is not None]
    return entries, dict(of.living(now)), of.digests.packed()


@settings(deadline=None, max_examples=200)
@given(st.lists(items(), max_size=8), st.randoms(use_true_random=False))
def test_merging_is_commutative(said: list[Item], rng: object) -> None:
    shuffled = said.copy()
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert state(table(said)) == state(table(shuffled))


def contents(of: Table) -> list[Item]:
    """What a table would pass on, with all it knows."""
    known = [(node, of.get(node)) for node in NODES]
    return [
        (
            advert(node, *entry.order, gone=entry.state is State.GONE or entry.order in ((1, 3), (3, 2))),
            0.0 if entry.state is State.OVER else entry.until - 1000.0,
        )
        for node, entry in known
        if entry is not None
    ]


@settings(deadline=None, max_examples=200)
@given(st.lists(items(), max_size=5), st.lists(items(), max_size=5), st.lists(items(), max_size=5))
def test_merging_tables_is_associative(a: list[Item], b: list[Item], c: list[Item]) -> None:
    left = table(contents(table(contents(table(a)) + contents(table(b)))) + contents(table(c)))
    right = table(contents(table(a)) + contents(table(contents(table(b)) + contents(table(c)))))
    assert state(left) == state(right)


@settings(deadline=None, max_examples=200)
@given(st.lists(items(), max_size=8))
def test_merging_is_idempotent(said: list[Item]) -> None:
    assert state(table(said)) == state(table(said + said)) == state(table([x for x in said for _ in range(2)]))


@settings(deadline=None, max_examples=200)
@given(st.lists(items(), min_size=1, max_size=10))
def test_the_newest_order_stands(said: list[Item]) -> None:
    made = table(said)
    for node, group in itertools.groupby(sorted(said, key=lambda x: x[0].id), key=lambda x: x[0].node):
        assert made.entry(node).order == max(item.order for item, _ in group)


def test_the_same_order_in_other_bytes_is_a_conflict_and_the_first_stays() -> None:
    first = advert(NODES[0], 1, 1)
    second = Advert(NODES[0], MESH, 1, 1, 180, name="another")
    made = table([(first, 180.0)])
    before = state(made)
    assert made.merge(second, signed(second), 180.0, 1000.0) == (Standing.CONFLICT, False)
    assert state(made) == before


def test_what_left_or_ended_is_not_brought_back_by_older_or_equal_copies() -> None:
    made = table([(advert(NODES[0], 1, 5, gone=True), 86_400.0), (advert(NODES[1], 1, 5), 10.0)])
    assert made.expire(1011.0) == [NODES[1]]
    for node, sequence in itertools.product(NODES[:2], (1, 5)):
        old = advert(node, 1, sequence, gone=node == NODES[0] and sequence == 5)
        assert made.merge(old, signed(old), 180.0, 1012.0)[1] is False
    assert made.living(1012.0) == {}
    newer = advert(NODES[0], 2, 1)
    assert made.merge(newer, signed(newer), 180.0, 1012.0) == (Standing.NEWER, True)
    assert list(made.living(1012.0)) == [NODES[0]]


def test_two_nodes_cannot_keep_an_advert_alive_by_telling_each_other() -> None:
    """Frames in flight do not age: with 2 s between them each copy seems younger than it is."""
    said = advert(NODES[0], 1, 1)
    one, other = table([(said, 180.0)]), table([])
    now = 1000.0
    while one.living(now) or other.living(now):
        for source, target in ((one, other), (other, one)):
            source.expire(now)
            left_s = source.entry(NODES[0]).until - now if source.living(now) else None
            now += 2.0
            target.expire(now)
            if left_s is not None:
                target.merge(said, signed(said), left_s, now)
        assert now < 1000.0 + 180.0 + 180.0
    one.expire(now + 10)
    assert one.merge(said, signed(said), 100.0, now + 10)[1] is False


def test_a_copy_with_more_time_left_makes_a_false_short_one_harmless() -> None:
    said = advert(NODES[0], 1, 1)
    made = table([(said, 1.0)])
    made.merge(said, signed(said), 179.0, 1000.5)
    assert made.expire(1100.0) == []
    assert made.living(1100.0)
    made.merge(said, signed(said), 180.0, 1100.0)
    assert made.expire(1181.0) == [NODES[0]], "but no longer than its lifetime from the first receipt"


def test_who_says_first_that_an_advert_is_over_silences_nobody() -> None:
    said = advert(NODES[0], 1, 1)
    made = table([(said, 0.0)])
    assert made.living(1000.0) == {}
    assert made.merge(said, signed(said), 100.0, 1001.0) == (Standing.NEWER, True)
    assert made.living(1001.0)
    assert made.expire(1101.0) == [NODES[0]]
    assert made.merge(said, signed(said), 100.0, 1102.0) == (Standing.SAME, False), "but what ended here stays ended"


def test_a_lifetime_longer_than_was_signed_is_not_believed() -> None:
    made = table([(advert(NODES[0], 1, 1, lifetime_s=20), 86_400.0)])
    assert made.expire(1021.0) == [NODES[0]]


def test_nothing_living_is_dropped_for_strangers_and_the_dead_are_capped() -> None:
    made = Table(GossipSection(nodes=10))
    for number in range(100):
        said = advert(node_id(number), 1, 1)
        made.merge(said, signed(said), 180.0, 0.0)
    assert set(made.living(0.0)) == {node_id(n) for n in range(10)}
    for number in range(100, 200):
        said = advert(node_id(number), 1, 1, gone=True)
        made.merge(said, signed(said), 86_400.0, 1.0)
    assert len(made.spread()) == 20
    assert set(made.living(1.0)) == {node_id(n) for n in range(10)}
    made.expire(181.0)
    assert sum(made.get(node_id(n)) is not None for n in range(200)) == 10


def test_expiring_more_than_the_dead_may_be_at_once_is_no_error() -> None:
    made = Table(GossipSection(nodes=4))
    for number in range(4):
        made.merge(advert(node_id(number), 1, 1), signed(advert(node_id(number), 1, 1)), 10.0, 0.0)
        gone = advert(node_id(10 + number), 1, 1, gone=True, lifetime_s=10)
        made.merge(gone, signed(gone), 10.0, 0.0)
    assert len(made.expire(10.0)) == 4
    assert made.living(10.0) == {}


class Bookkeeping(RuleBasedStateMachine):
    """Whatever happens, the derived parts of a table agree with its entries."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.table = Table(GossipSection(nodes=3, tombstone_s=400.0))
        self.ended: dict[NodeId, tuple[int, int]] = {}

    @rule(item=items())
    def merge(self, item: Item) -> None:
        self.sweep()
        before = self.table.get(item[0].node)
        order = before.order if before else (-1, -1)
        self.table.merge(item[0], signed(item[0]), item[1], self.now)
        after = self.table.get(item[0].node)
        assert after is None or after.order >= order

    @rule(seconds=st.floats(0, 300))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.sweep()
        due = self.table.next_due()
        assert due is None or due > self.now

    def sweep(self) -> None:
        living = dict(self.table.living(self.now))
        for node in self.table.expire(self.now):
            self.ended[node] = self.table._entries[node].order if node in self.table._entries else (-1, -1)
            assert node not in living
        assert self.table.living(self.now) == living

    @invariant()
    def what_ended_stays_ended_as_long_as_it_is_remembered(self) -> None:
        for node, order in list(self.ended.items()):
            entry = self.table.get(node)
            if entry is None or entry.order != order:
                del self.ended[node]
            else:
                assert entry.state is State.OVER

    @invariant()
    def sums_are_those_of_the_spread(self) -> None:
        fresh = Digests()
        for entry in self.table.spread():
            fresh.add(entry.node, entry.order)
        assert fresh.packed() == self.table.digests.packed()

    @invariant()
    def each_entry_is_found_by_its_bytes_and_counted_once(self) -> None:
        known = [entry for node in NODES if (entry := self.table.get(node)) is not None]
        for entry in known:
            assert self.table.holder(entry.signed.body) is entry
        living = {entry.node for entry in known if entry.state is State.LIVING and entry.until > self.now}
        assert set(self.table.living(self.now)) == living
        assert sum(entry.state is State.LIVING for entry in known) <= 3
        assert sum(entry.state is not State.LIVING for entry in known) <= 3
        assert len(self.table._by_body) == len(known)


TestBookkeeping = Bookkeeping.TestCase
TestBookkeeping.settings = settings(deadline=None, max_examples=60, stateful_step_count=30)

"""One round of anti-entropy between two tables, without rates and without a wire."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.config.gossip import GossipSection
from meshnode.gossip.exchange import carried, compare, listing
from meshnode.gossip.messages import Version, Versions
from meshnode.gossip.table import State, Table
from meshnode.model.advert import Advert, unpack
from meshnode.model.ids import NodeId
from tests.gossip.world import MESH, node_id, signed

NODES = [node_id(number) for number in range(6)]
ORDERS = st.tuples(st.integers(1, 3), st.integers(1, 3))
KNOWN = st.dictionaries(st.sampled_from(NODES), ORDERS)


def table(known: dict[NodeId, tuple[int, int]], now: float = 0.0) -> Table:
    made = Table(GossipSection())
    for node, order in known.items():
        said = Advert(node, MESH, *order, 180)
        made.merge(said, signed(said), 180.0, now)
    return made


def orders(of: Table) -> dict[NodeId, tuple[int, int]]:
    return {node: entry.order for node in NODES if (entry := of.get(node)) is not None}


def versions(of: Table, other: Table) -> Versions:
    """What the first lists where the two differ."""
    buckets = of.digests.differing(other.digests.packed())
    listed = list(listing(of, buckets))
    return Versions(bytes(buckets), tuple(version for _, versions in listed for version in versions))


@settings(deadline=None)
@given(KNOWN, KNOWN)
def test_one_round_leaves_both_with_the_newest_of_all(mine: dict, theirs: dict) -> None:  # type: ignore[type-arg]
    one, other = table(mine), table(theirs)
    wanted, newer = compare(one, versions(other, one), {})
    for source, target, nodes in ((one, other, [entry.node for entry in newer]), (other, one, wanted)):
        for item in carried([source.entry(node) for node in nodes], 0.0):
            said = unpack(item.signed.body)
            target.merge(said, item.signed, item.left_s, 0.0)
    newest = {node: max(known[node] for known in (mine, theirs) if node in known) for node in {**mine, **theirs}}
    assert orders(one) == orders(other) == newest


@settings(deadline=None)
@given(KNOWN, KNOWN)
def test_nothing_is_asked_for_or_sent_that_the_other_has(mine: dict, theirs: dict) -> None:  # type: ignore[type-arg]
    one = table(mine)
    everything = Versions(bytes(range(256)), tuple(Version(node, *order) for node, order in theirs.items()))
    wanted, newer = compare(one, everything, {})
    nothing = (0, 0)
    assert set(wanted) == {node for node in theirs if theirs[node] > mine.get(node, nothing)}
    assert {entry.node for entry in newer} == {node for node in mine if mine[node] > theirs.get(node, nothing)}
    assert len(newer) == len({entry.node for entry in newer})


def test_what_is_missing_in_a_bucket_that_is_not_whole_may_be_listed_in_another_frame() -> None:
    one = table({NODES[0]: (1, 1)})
    assert compare(one, Versions(b"", ()), {})[1] == []
    assert [entry.node for entry in compare(one, Versions(NODES[0][:1], ()), {})[1]] == [NODES[0]]


def test_what_was_not_wanted_is_not_asked_for_up_to_its_order() -> None:
    unwanted = {NODES[0]: (1, 5)}
    for sequence, wanted in ((4, []), (5, []), (6, [NODES[0]])):
        said = Versions(b"", (Version(NODES[0], 1, sequence),))
        assert compare(table({}), said, unwanted)[0] == wanted


def test_an_advert_travels_with_the_whole_seconds_left_of_it_and_not_within_its_last() -> None:
    made = table({NODES[0]: (1, 1)}, now=1000.3)
    entry = made.entry(NODES[0])
    left = [[item.left_s for item in carried([entry], now)] for now in (1000.3, 1000.8, 1179.3, 1179.8)]
    assert left == [[180], [179], [1], []]


def test_a_lifetime_loses_no_second_to_rounding() -> None:
    for now in (0.1, 1 / 3, 1e6 + 0.7):
        entry = table({NODES[0]: (1, 1)}, now=now).entry(NODES[0])
        assert [item.left_s for item in carried([entry], now)] == [180]


def test_what_is_over_travels_as_proof_of_the_count_only() -> None:
    made = table({NODES[0]: (1, 1)})
    made.expire(500.0)
    entry = made.entry(NODES[0])
    assert entry.state is State.OVER
    assert [item.left_s for item in carried([entry], 500.0)] == [0]

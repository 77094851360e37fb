from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnode.gossip.digest import DIGEST_BYTES, Digests, bucket_of
from meshnode.model.ids import NodeId

IDS = st.binary(min_size=32, max_size=32).map(NodeId)
ORDERS = st.tuples(st.integers(0, 2**62), st.integers(0, 2**62))
KNOWN = st.dictionaries(IDS, ORDERS, max_size=12)


def digests(known: dict[NodeId, tuple[int, int]]) -> Digests:
    made = Digests()
    for node, order in known.items():
        made.add(node, order)
    return made


@given(KNOWN, st.randoms(use_true_random=False))
def test_sums_do_not_depend_on_the_way_there(known: dict[NodeId, tuple[int, int]], rng: object) -> None:
    straight = digests(known)
    shuffled = list(known.items())
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    winding = digests({node: (order[0], order[1] ^ 1) for node, order in shuffled})
    for node, order in shuffled:
        winding.remove(node, (order[0], order[1] ^ 1))
        winding.add(node, order)
    assert winding.packed() == straight.packed()
    assert len(straight.packed()) == DIGEST_BYTES
    for node, order in shuffled:
        winding.remove(node, order)
    assert winding.packed() == bytes(DIGEST_BYTES)


@given(KNOWN, KNOWN)
def test_exactly_the_buckets_that_differ_are_named(
    mine: dict[NodeId, tuple[int, int]], theirs: dict[NodeId, tuple[int, int]]
) -> None:
    differing = {bucket_of(node) for node in mine | theirs if mine.get(node) != theirs.get(node)}
    assert digests(mine).differing(digests(theirs).packed()) == sorted(differing)


@given(KNOWN)
def test_members_are_those_of_the_bucket_in_order(known: dict[NodeId, tuple[int, int]]) -> None:
    made = digests(known)
    for bucket in range(256):
        assert made.members(bucket) == sorted(node for node in known if node[0] == bucket)

"""Tables that share what all know behave as those that hold it alone."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.config.gossip import GossipSection
from meshnode.gossip.table import Table
from meshnode.model.advert import Advert, SignedAdvert, pack
from meshnode.model.ids import NodeId
from tests.simulation.common_tables import Common, CommonTable
from tests.simulation.stand_ins import MESH, node_id, signature

SECTION = GossipSection(nodes=6, tombstone_s=90.0, advert_burst=3)

_STEPS = st.tuples(
    st.sampled_from(("merge", "merge", "put", "wait", "tombstone", "drop", "prolong", "rate")),
    st.integers(0, 8),
    st.integers(0, 4),
    st.integers(0, 200),
)


def advert(number: int, sequence: int, *, gone: bool = False, name: str = "") -> Advert:
    return Advert(node_id(number), MESH, 1, sequence, 60, name=name, gone=gone)


def signed(said: Advert) -> SignedAdvert:
    body = pack(said)
    return SignedAdvert(body, signature(said.id, body))


def state(table: Table, now: float) -> dict[str, object]:
    entries = {entry.node: entry for entry in map(table._entries.__getitem__, table._entries)}
    return {
        "entries": {n: (e.order, e.signed, e.state, e.until, e.latest) for n, e in entries.items()},
        "tokens": {node: table.entry(node).rate.available(now) for node in entries},
        "get": {number: getattr(table.get(node_id(number)), "order", None) for number in range(9)},
        "bodies": {e.signed.body: table.holder(e.signed.body) is table.get(n) for n, e in entries.items()},
        "held": sorted(table._by_body),
        "living": dict(table.living(now)),
        "count": (table.count, len(table._entries), len(table._by_body)),
        "spread": sorted(entry.node for entry in table.spread()),
        "digest": table.digests.packed(),
        "members": [table.digests.members(bucket) for bucket in range(256)],
        "due": table.next_due(),
        "slots": {at: sorted(nodes) for at, nodes in table._wheel._slots.items() if nodes},
    }


def take(table: Table, what: str, number: int, sequence: int, seconds: int, now: float) -> object:
    node = NodeId(node_id(number))
    said = advert(number, sequence, gone=what == "tombstone")
    match what:
        case "merge" | "tombstone":
            return table.merge(said, signed(said), seconds, now)
        case "put":
            return table.put(said, signed(said), seconds, now)
        case "wait":
            return table.expire(now)
        case "drop":
            return table.drop(node)
        case "prolong" if (body := signed(said).body) and (held := table.holder(body)) is not None:
            return table.prolong(held, seconds, now)
        case "rate" if table.get(node) is not None:
            table.put(said, signed(said), seconds, now)
            return table.entry(node).rate.take(now)
    return None


@given(st.integers(0, 6), st.lists(_STEPS, max_size=60))
@settings(deadline=None, max_examples=150)
def test_a_table_over_what_is_common_does_what_one_does_that_holds_it(
    many: int, steps: list[tuple[str, int, int, int]]
) -> None:
    common, plain, other, layered = Table(SECTION), Table(SECTION), CommonTable(SECTION), CommonTable(SECTION)
    for table in (common, plain):
        for number in range(many):
            table.put(advert(number, 1), signed(advert(number, 1)), 20 + 10 * number, 1000.0)
    shared = Common(common)
    for table in (other, layered):
        table.adopt(shared)
    before, now = state(other, 1000.0), 1000.0
    for what, number, sequence, seconds in steps:
        now += seconds / 7 if what == "wait" else 0.0
        assert take(layered, what, number, sequence, seconds, now) == take(plain, what, number, sequence, seconds, now)
        assert state(layered, now) == state(plain, now)
    # Nobody else who shares it notices.
    assert state(other, 1000.0) == before == state(common, 1000.0)

"""Which of those that are due are dialled now."""

from __future__ import annotations

from meshnode.gossip.flights import Flights, Ready
from meshnode.gossip.targets import Key, Kind
from meshnode.model.ids import NodeId

PEER = NodeId(b"p" * 32)


def ready(key: Key, kind: Kind, at: float, peer: NodeId | None = None, where: tuple[str, ...] | None = None) -> Ready:
    return Ready(at, key, kind, peer, (str(key),) if where is None else where)


def started(flights: Flights, *due: Ready) -> list[Key]:
    return [dial.target for dial in flights.start(due)]


def test_named_ones_go_first_and_hints_last() -> None:
    flights = Flights(3)
    due = [ready(kind.name, kind, 0.0) for kind in (Kind.HINT, Kind.DEAD, Kind.KNOWN, Kind.NAMED)]
    assert started(flights, *due) == ["NAMED", "KNOWN", "DEAD"]
    flights.landed("NAMED")
    assert started(flights, *due[:1]) == ["HINT"] and "HINT" in flights


def test_whoever_has_waited_long_goes_before_a_named_one() -> None:
    flights = Flights(1)
    assert started(flights, ready("n", Kind.NAMED, 200.0), ready("h", Kind.HINT, 0.0)) == ["h"]


def test_hints_have_a_quarter_of_the_dials() -> None:
    flights = Flights(8)
    assert len(started(flights, *(ready(f"h{n}", Kind.HINT, 0.0) for n in range(8)))) == 2
    assert len(started(flights, *(ready(f"k{n}", Kind.KNOWN, 9.0) for n in range(8)))) == 6


def test_one_peer_and_one_address_are_dialled_once_at_a_time() -> None:
    flights = Flights(8)
    assert started(
        flights,
        ready("a:1", Kind.NAMED, 0.0, PEER),
        ready(PEER, Kind.KNOWN, 0.0, PEER, ("b:1",)),
        ready("c", Kind.KNOWN, 0.0, None, ("x:1", "a:1")),
        ready("nowhere", Kind.KNOWN, 0.0, None, ()),
    ) == ["a:1"]
    flights.landed("a:1")
    assert started(flights, ready(PEER, Kind.KNOWN, 0.0, PEER, ("b:1",))) == [PEER]

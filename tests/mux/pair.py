"""Two ends of a link without a link: records carried by hand, in any cut."""

from __future__ import annotations

from meshnode.config.mesh import MeshSection
from meshnode.mux import Data, Event, Mux, StreamKey, Trailers

REQUEST = [(":method", "POST"), (":scheme", "mesh"), (":authority", "mesh"), (":path", "/v1/chat/completions")]
OK = [(":status", "200")]


class Pair:
    """`dialer` and `listener`, and every event each has seen."""

    def __init__(self, section: MeshSection | None = None) -> None:
        section = section or MeshSection()
        self.dialer = Mux(True, section)
        self.listener = Mux(False, section)
        self.seen: dict[Mux, list[Event]] = {self.dialer: [], self.listener: []}
        self.now = 0.0

    def other(self, mux: Mux) -> Mux:
        return self.listener if mux is self.dialer else self.dialer

    def carry(self, frm: Mux, limit: int = 64 * 1024, cut: int = 0) -> bool:
        """Carry one flush; `cut` splits each record into pieces of so many bytes. Whether there was any."""
        records = frm.records_to_send(limit)
        for record in records:
            step = cut or len(record)
            for at in range(0, len(record) - 1, step):
                piece = record[:1] + record[1 + at : 1 + at + step]
                self.seen[self.other(frm)] += self.other(frm).receive(piece, self.now)
        return bool(records)

    def settle(self, cut: int = 0) -> None:
        """Carry until neither has anything to say."""
        while self.carry(self.dialer, cut=cut) | self.carry(self.listener, cut=cut):
            pass

    def take(self, mux: Mux) -> list[Event]:
        events = self.seen[mux]
        self.seen[mux] = []
        return events

    def ask(self, body: bytes = b"") -> StreamKey:
        """A request of the dialer that has arrived."""
        key = self.dialer.open(REQUEST, end=not body)
        if body:
            self.dialer.send(key, body)
            self.dialer.finish(key)
        self.settle()
        return key


def body_of(events: list[Event], key: StreamKey) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Data) and event.key == key)


def trailers_of(events: list[Event], key: StreamKey) -> list[tuple[str, str]]:
    return [pair for event in events if isinstance(event, Trailers) and event.key == key for pair in event.headers]

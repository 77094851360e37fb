"""Who is shut out, and for how long: a peer that broke the protocol, longer each time. Pure.

Not for what a breach is (net, gossip.machine) nor for who is out for ever (identity). protocol.md §3.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshnode.model.ids import NodeId

FORGIVEN_S = 3600.0
"""After so long in order the next breach counts as the first. Counted from the end of the last shutting out: before it
the peer had no occasion."""

MOST = 4096
"""Peers kept; of more, the one that has been free longest is forgotten."""


@dataclass(frozen=True, slots=True)
class _Shut:
    until: float
    length_s: float


class Quarantine:
    """Shut out for `first_s`, twice as long each time, `most_s` at most."""

    def __init__(self, first_s: float, most_s: float) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._shut: dict[NodeId, _Shut] = {}

    def breached(self, peer: NodeId, now: float) -> None:
        """`peer` broke the protocol. What else it did before it was shut out belongs to the same breach."""
        last = self._shut.get(peer)
        if last is not None and now < last.until:
            return
        length_s = self._first_s
        if last is not None and now - last.until < FORGIVEN_S:
            length_s = last.length_s * 2
        length_s = min(length_s, self._most_s)
        if last is None and len(self._shut) >= MOST:
            del self._shut[min(self._shut, key=lambda other: self._shut[other].until)]
        self._shut[peer] = _Shut(now + length_s, length_s)

    def until(self, peer: NodeId | None) -> float:
        """When `peer` was or is free again, on the clock of `breached`; minus infinity for one that never broke it."""
        shut = self._shut.get(peer) if peer is not None else None
        return shut.until if shut is not None else float("-inf")

    def left_s(self, peer: NodeId, now: float) -> float | None:
        """Seconds for which `peer` is still shut out; None when it is not."""
        left_s = self.until(peer) - now
        return left_s if left_s > 0 else None

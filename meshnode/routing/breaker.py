"""Breakers per node and model: a server that fails again and again is left alone for a while. Pure; requests.md §3.

Full is not broken and a client's own fault is not a failure: neither is told to a breaker. That the last candidate is
never ejected is eligible.py's business, which knows the others. Health of links is elsewhere (gossip).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from meshnode.config.routing import RoutingSection
from meshnode.model.ids import NodeId


@dataclass(slots=True)
class _Breaker:
    """Closed while `open_s` is 0; else open until `until`, and half open from then on."""

    failures: int = 0
    open_s: float = 0.0
    until: float = 0.0
    probe_at: float = 0.0
    successes: int = 0


class Breakers:
    """Every breaker that is not at rest. Bounded: the longest untouched are forgotten first."""

    def __init__(self, section: RoutingSection) -> None:
        self._section = section
        self._breakers: dict[tuple[NodeId, str], _Breaker] = {}

    def __len__(self) -> int:
        return len(self._breakers)

    def shut_out(self, models: Iterable[str], now: float) -> frozenset[tuple[NodeId, str]]:
        """The pairs of node and model that may not be asked now: open, or half open between two probes. Asking is told
        by `started`."""
        wanted = frozenset(models)
        return frozenset(
            key
            for key, breaker in self._breakers.items()
            if key[1] in wanted and breaker.open_s and now < max(breaker.until, breaker.probe_at)
        )

    def on_trial(self, models: Iterable[str], now: float) -> frozenset[tuple[NodeId, str]]:
        """The pairs that are half open and due for a probe. Without one they would wait for a lucky draw: beside a
        server that was measured, one that only failed looks slow for ever."""
        wanted = frozenset(models)
        return frozenset(
            key
            for key, breaker in self._breakers.items()
            if key[1] in wanted and breaker.open_s and now >= max(breaker.until, breaker.probe_at)
        )

    def state(self, node: NodeId, model: str, now: float) -> str:
        """ "closed", "open" or "half-open"."""
        breaker = self._breakers.get((node, model))
        if breaker is None or not breaker.open_s:
            return "closed"
        return "open" if now < breaker.until else "half-open"

    def started(self, node: NodeId, model: str, now: float) -> None:
        """A request goes to the server: while half open, the next probe waits."""
        breaker = self._breakers.get((node, model))
        if breaker is not None and breaker.open_s and now >= breaker.until:
            breaker.probe_at = now + self._section.breaker_probe_s

    def succeeded(self, node: NodeId, model: str, now: float) -> None:
        """An answer ended well. One that comes while the breaker is open began before and says nothing of now."""
        breaker = self._breakers.get((node, model))
        if breaker is None:
            return
        if not breaker.open_s:
            del self._breakers[node, model]
        elif now >= breaker.until:
            breaker.successes += 1
            if breaker.successes >= self._section.breaker_successes:
                del self._breakers[node, model]

    def failed(self, node: NodeId, model: str, now: float) -> None:
        """The server or the way to it broke."""
        breaker = self._breakers.pop((node, model), None) or _Breaker()
        self._breakers[node, model] = breaker
        while len(self._breakers) > self._section.measured:
            del self._breakers[next(iter(self._breakers))]
        if not breaker.open_s:
            breaker.failures += 1
            if breaker.failures >= self._section.breaker_failures:
                self._open(breaker, self._section.breaker_open_s, now)
        elif now >= breaker.until:
            self._open(breaker, breaker.open_s * 2, now)

    def _open(self, breaker: _Breaker, open_s: float, now: float) -> None:
        breaker.open_s = min(open_s, self._section.breaker_most_s)
        breaker.until = now + breaker.open_s
        breaker.successes = 0

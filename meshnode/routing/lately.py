"""Models that somebody offered until lately, so that "gone for now" is not told as "does not exist". Pure.

A client takes a 404 for its own mistake and gives up; a 503 it tries again. Not for offers (offers.py). Counterpart:
refusal.py, which says it.
"""

from __future__ import annotations

from collections.abc import Iterable

from meshnode.model.names import same_model

KEPT_S = 900.0
"""After the last server went: a machine that restarts, or a laptop that was closed for a while, is back by then."""

MOST = 1024
"""Models. The one that went first is forgotten first."""

MOST_SERVERS = 16


class Lately:
    """`went` for each model that nobody offers any more; `servers` says who did."""

    def __init__(self) -> None:
        self._gone: dict[str, tuple[float, tuple[str, ...]]] = {}

    def __len__(self) -> int:
        return len(self._gone)

    def went(self, model: str, servers: Iterable[str], now: float) -> None:
        """Nobody offers it now; `servers`, by name, did a moment ago."""
        self._gone.pop(model, None)
        self._gone[model] = (now, tuple(sorted(set(servers)))[:MOST_SERVERS])
        if len(self._gone) > MOST:
            del self._gone[next(iter(self._gone))]

    def servers(self, model: str, now: float) -> tuple[str, ...]:
        """Who offered it until lately; empty where nobody did."""
        for name, (at, servers) in self._gone.items():
            if same_model(model, name) and now - at <= KEPT_S:
                return servers
        return ()

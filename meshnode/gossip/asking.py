"""When to ask a peer to dial this node, because this node cannot dial it. Pure.

Not for whom (dialling.py) nor for how the question travels (mesh.dial_me).
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from meshnode.gossip.backoff import wait_s
from meshnode.model.ids import NodeId

PACE_S = 6.0
"""Between two questions of this node: peers pass ten a minute on (mesh.dial_me)."""

ASK_MIN_S, ASK_MAX_S = 5.0, 600.0
"""From the first question to the rarest. A peer that can dial has usually done so before it is asked."""


@dataclass(slots=True)
class _Ask:
    due: float
    asked: int = 0


class Asking:
    """Told after each event who cannot be dialled now; says who is asked."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._asks: dict[NodeId, _Ask] = {}
        self._pace = float("-inf")

    def next_due(self) -> float | None:
        """When the next question is due."""
        first = min((ask.due for ask in self._asks.values()), default=None)
        return max(first, self._pace) if first is not None else None

    def choose(self, blocked: Iterable[NodeId], now: float) -> NodeId | None:
        """Whom to ask now, of the peers that cannot be dialled and could dial; None for nobody."""
        asks = self._asks
        self._asks = {peer: asks.get(peer) or _Ask(now + ASK_MIN_S) for peer in blocked}
        due = [(ask.due, peer) for peer, ask in self._asks.items() if ask.due <= now]
        if not due or now < self._pace:
            return None
        peer = min(due)[1]
        ask = self._asks[peer]
        ask.asked += 1
        ask.due = now + wait_s(self._rng, ask.asked, ASK_MIN_S, ASK_MAX_S)
        self._pace = now + PACE_S
        return peer

    def anew(self) -> None:
        """This machine is somewhere else now: who was asked in vain may hear it here."""
        self._asks.clear()

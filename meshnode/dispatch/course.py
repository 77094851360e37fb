"""The course of one request at its origin: which server is tried next, and over whom, as servers and relays fail.

The plan's order, but a server that was lost only because the way to it broke is tried again on another one, after the
servers that have not been tried. Not for trying (dispatcher.py) nor for ways and plans (routing).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from meshnode.model.ids import NodeId
from meshnode.routing import Attempt, Plan, Router

if TYPE_CHECKING:
    from meshnode.model.view import View
    from meshnode.net.link import Link


REDIRECTS = 2
"""Servers asked besides, where others had no slot at once: that cost them nothing."""


class Course:
    """`next()` until it gives None, then `after_all()`; `failed` for each attempt that did not answer, `redirected` for
    each that had no slot at once and shall not count. `number` counts from 1.

    `link` gives the live link to a neighbour.
    """

    def __init__(
        self,
        plan: Plan,
        hops_left: int,
        most: int,
        router: Router,
        view: Callable[[], View],
        link: Callable[[NodeId], Link | None],
    ) -> None:
        self.number = 0
        self._waiting = deque((*plan.attempts, *plan.others[:REDIRECTS]))
        self._redirects = 0
        self._hops_left = hops_left
        self._most = most
        self._router = router
        self._view = view
        self._link = link
        self._lost: set[NodeId] = set()
        self._again: set[NodeId] = set()
        self._refused: deque[Attempt] = deque()

    def next(self) -> Attempt | None:
        """The attempt to make now, past every relay that was lost; None when `most` were made or none is left."""
        return self._take(self._waiting)

    def after_all(self) -> Attempt | None:
        """The same of those that had no slot at once, to be waited for now that all others failed."""
        return self._take(self._refused)

    def _take(self, left: deque[Attempt]) -> Attempt | None:
        while left and self.number < self._most + self._redirects:
            attempt = left.popleft()
            if self._lost:
                around = self._router.around(attempt, self._view(), self._lost, self._hops_left)
                if around is None:
                    continue
                attempt = around
            self.number += 1
            return attempt
        return None

    @property
    def more(self) -> bool:
        """Whether `next` may have one."""
        return bool(self._waiting) and self.number < self._most + self._redirects

    @property
    def may_redirect(self) -> bool:
        """Whether the latest attempt need not wait at its server, since another one can be asked."""
        return bool(self._waiting) and self._redirects < REDIRECTS

    def redirected(self, attempt: Attempt) -> None:
        """A server had no slot at once: the attempt does not count."""
        self._redirects += 1
        self._refused.append(attempt)

    def failed(self, attempt: Attempt, *, cut: bool = False) -> None:
        """It did not answer. If the link to its first relay is gone, or the way was `cut` farther on, the server may be
        well."""
        if len(attempt.path) < 3:
            return
        relay = attempt.path[1]
        link = self._link(relay)
        if link is None or link.reason is not None:
            self._lost.add(relay)
        elif not cut:
            return
        elif attempt.node in self._again:
            self._lost.add(relay)
        else:
            # The relay knows by now which of its links broke, and may have another.
            self._again.add(attempt.node)
        self._waiting.append(attempt)

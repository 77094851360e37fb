"""Idempotency keys: at most one delivered answer for each, as far as this node remembers. Pure.

A key that runs is joined, one that is answered gives its answer again while that is kept, and one whose answer is no
longer kept is refused rather than run twice. What failed or was left frees its key. Counterpart: coalesce.py.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshnode.errors import Conflict, Overloaded

if TYPE_CHECKING:
    from meshnode.dispatch.shared import Run

Key = tuple[str, str]
"""Tenant, and the key it gave."""


@dataclass(frozen=True, slots=True)
class _Known:
    run: Run
    meant: Hashable
    ended_at: float


class _Tenant:
    """How many keys a client has in the table, and the sizes of its answers that are kept, the oldest first."""

    __slots__ = ("bytes", "keys", "sizes")

    def __init__(self) -> None:
        self.keys = self.bytes = 0
        self.sizes: dict[Key, int] = {}

    def keep(self, key: Key, size: int) -> None:
        self.sizes[key] = size
        self.bytes += size

    def drop(self, key: Key) -> int | None:
        size = self.sizes.pop(key, None)
        self.bytes -= size or 0
        return size


class Keys:
    """At most `most` keys, each for `age_s` after its answer's end; answers of at most `most_bytes` together.

    No tenant may have more keys than are free (as switches share a buffer among ports: Choudhury and Hahne 1998): alone
    it gets half of them, two a third each, and whoever comes next finds room. Answers go first whose tenant has most.
    """

    def __init__(self, most: int, age_s: float, most_bytes: int) -> None:
        self._most = most
        self._age_s = age_s
        self._most_bytes = most_bytes
        self._running: dict[Key, _Known] = {}
        self._answered: dict[Key, _Known] = {}
        self._tenants: dict[str, _Tenant] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._running) + len(self._answered)

    def find(self, key: Key, meant: Hashable, now: float) -> Run | None:
        """The run of `key`, running or answered; None where it is new. Raises Conflict where the same key meant
        something else or its answer is gone, and Overloaded where there are more keys than can be remembered."""
        self._expire(now)
        known = self._running.get(key) or self._answered.get(key)
        if known is None:
            self._check_room(key[0])
            return None
        if known.meant != meant:
            raise Conflict("this idempotency key was used for another request", param="idempotency-key")
        if not known.run.replay.from_start:
            said = "is being" if key in self._running else "has been"
            raise Conflict(
                f"the request of this idempotency key {said} answered, and its answer is not kept from the start",
                param="idempotency-key",
            )
        return known.run

    def began(self, key: Key, meant: Hashable, run: Run) -> None:
        """A new key runs."""
        self._running[key] = _Known(run, meant, 0.0)
        self._tenants.setdefault(key[0], _Tenant()).keys += 1

    def ended(self, key: Key, now: float, *, keep: bool) -> None:
        """Its run is over. One that delivered an answer blocks the key; that answer can be had again if it may be kept
        and fits."""
        known = self._running.pop(key)
        run = known.run
        delivered = run.whole and 200 <= run.status < 300
        run.kept = delivered and keep and run.replay.from_start
        if not delivered:
            self._forget(key)
            return
        self._answered[key] = _Known(run, known.meant, now)
        if run.kept:
            self._tenants[key[0]].keep(key, run.replay.held_bytes)
            self._bytes += run.replay.held_bytes
        while self._bytes > self._most_bytes:
            largest = max(self._tenants.values(), key=lambda tenant: tenant.bytes)
            self._drop(next(iter(largest.sizes)))

    def _check_room(self, tenant: str) -> None:
        known, free = self._tenants.get(tenant), self._most - len(self)
        if free <= 0:
            raise Overloaded("this node remembers as many idempotency keys as it can", retry_after_s=self._age_s)
        if known is not None and known.keys >= free:
            raise Overloaded(
                f"this client has used {known.keys} idempotency keys, as many as this node remembers of one now",
                retry_after_s=self._age_s,
            )

    def _expire(self, now: float) -> None:
        while self._answered:
            key, known = next(iter(self._answered.items()))
            if now - known.ended_at < self._age_s:
                return
            self._drop(key)
            del self._answered[key]
            self._forget(key)

    def _drop(self, key: Key) -> None:
        """Forget an answer, not its key. Whoever still reads it does so to its end."""
        size = self._tenants[key[0]].drop(key)
        if size is not None:
            self._bytes -= size
            self._answered[key].run.forget()

    def _forget(self, key: Key) -> None:
        tenant = self._tenants[key[0]]
        tenant.keys -= 1
        if not tenant.keys:
            del self._tenants[key[0]]

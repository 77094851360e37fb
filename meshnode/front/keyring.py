"""Who a request comes from: this node's API keys and its control secret, asked before anything of a body is read.

As long as keys are needed, nothing but the pages for probes is answered without one; control routes need the secret or
a key of scope admin always. Not for what a key allows (access). Counterparts: gate (browsers), control (changes).
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import trio

from meshnode.access import (
    KEY_BYTES,
    OPEN,
    OPERATOR,
    Caller,
    KeyRecord,
    Ring,
    Scope,
    Wish,
    credentials,
    digest_of,
    key_of,
)
from meshnode.errors import Forbidden, Unauthorized

FOR_PROBES: Final = frozenset({"/", "/healthz", "/readyz"})
"""Pages that say no more than that a node is here, and whether it is ready: answered to everybody."""

MISSING = (
    "This node asks for an API key: send one that it knows as 'authorization: Bearer mk_…' or 'x-api-key'; "
    "`meshnode keys add` on its machine makes one"
)
UNKNOWN = "This API key is not known here, or not any more; `meshnode keys add` on this node's machine makes one"


class Keyring:
    """The keys that hold now. `save` keeps a ring before it holds; an empty `control_secret` closes the control routes.

    `required`: a key is needed even while there is none. `wall` gives wall-clock seconds.
    """

    def __init__(
        self,
        ring: Ring | None = None,
        control_secret: str = "",
        *,
        required: bool = False,
        save: Callable[[Ring], None] = lambda _: None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._ring = ring if ring is not None else Ring()
        self._secret = control_secret.encode()
        self._required = required
        self._save = save
        self._wall = wall
        self._changing = trio.Lock()

    @property
    def closed(self) -> bool:
        """Whether a key is needed."""
        return self._required or len(self._ring) > 0

    def admit(self, headers: Mapping[str, str], scope: Scope) -> Caller:
        """Who asks. Header names are lower case. Raises Unauthorized, and Forbidden where the key is for other
        things."""
        return self._known(headers, scope) if self._required or len(self._ring) else OPEN

    def admit_to(self, path: str, headers: Mapping[str, str]) -> Caller:
        """Who asks for a page or a route, as `admit` does."""
        if path in FOR_PROBES:
            return OPEN
        return self.admit(headers, Scope.INFER if path.startswith("/v1/") else Scope.ADMIN)

    def command(self, headers: Mapping[str, str]) -> None:
        """Raises Unauthorized or Forbidden unless the request may command this node, whether keys are needed or not."""
        self._known(headers, Scope.ADMIN)

    def _known(self, headers: Mapping[str, str], scope: Scope) -> Caller:
        given = credentials(headers)
        now = self._wall()
        for one in given:
            caller = self._ring.caller(one, now)
            if caller is None and self._secret and hmac.compare_digest(one.encode(), self._secret):
                return OPERATOR
            if caller is None:
                continue
            if scope not in caller.scopes:
                raise Forbidden(f"This API key ({caller.key}) lacks the scope {scope}")
            return caller
        raise Unauthorized(UNKNOWN if given else MISSING)

    def listed(self) -> Sequence[Mapping[str, Any]]:
        """Every key there is, without what it is made of."""
        now = self._wall()
        return [one.told(now) for one in self._ring.records]

    async def add(self, wish: Wish) -> Mapping[str, Any]:
        """Make a key. It is in the answer, and nowhere else. Raises Conflict, SecretFileError."""
        async with self._changing:
            ring, record, key = made(self._ring, wish, self._wall())
            await self._change(ring)
        return {"key": key, **record.told(self._wall())}

    async def revoke(self, key_id: str) -> Mapping[str, Any]:
        """Let a key open nothing any more; what it began goes on. Raises BadRequest, SecretFileError."""
        async with self._changing:
            ring, record = self._ring.revoked(key_id, self._wall())
            await self._change(ring)
        return record.told(self._wall())

    async def forget(self, key_id: str) -> Mapping[str, Any]:
        """Drop a key that is good no more. Raises BadRequest, Conflict, SecretFileError."""
        async with self._changing:
            ring, record = self._ring.forgotten(key_id, self._wall())
            await self._change(ring)
        return {**record.told(self._wall()), "closed": self.closed}

    async def _change(self, ring: Ring) -> None:
        """Under the lock, so that `ring` comes of what holds. Kept first: what a crash would undo never held."""
        await trio.to_thread.run_sync(self._save, ring)
        self._ring = ring


def made(ring: Ring, wish: Wish, now: float) -> tuple[Ring, KeyRecord, str]:
    """A new key on a ring: the ring, the record, and the key itself. Raises Conflict."""
    key = key_of(secrets.token_bytes(KEY_BYTES))
    digest = digest_of(key)
    assert digest is not None
    key_id = secrets.token_hex(4)
    while key_id in ring:
        key_id = secrets.token_hex(4)
    return *ring.added(wish, key_id, digest, now), key

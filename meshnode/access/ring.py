"""All API keys of one node: which is whose, and how they come and go. Immutable; a change makes a new ring.

A key is found by its hash, which whoever guesses cannot steer, and then compared in constant time. As long as anything
is on the ring, also what is revoked or has expired, the node asks for a key: a door that opens by itself when its last
key ends would be worse than none.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import Final

import msgspec

from meshnode.access.caller import Caller
from meshnode.access.key import digest_of
from meshnode.access.record import KeyRecord, Wish, record_of
from meshnode.errors import BadRequest, Conflict

MOST_KEYS: Final = 512
"""Far more than a node has tools and people."""


class Ring:
    """`records` in the order in which they were made."""

    __slots__ = ("_live", "records")

    def __init__(self, records: Iterable[KeyRecord] = ()) -> None:
        self.records = tuple(records)
        self._live = {one.digest: (one, one.caller()) for one in self.records if one.revoked_at is None}

    def __len__(self) -> int:
        return len(self.records)

    def __contains__(self, key_id: str) -> bool:
        return any(one.id == key_id for one in self.records)

    def caller(self, key: str, now: float) -> Caller | None:
        """Who comes with this key; None where it is not one of them, or not any more."""
        digest = digest_of(key)
        if digest is None:
            return None
        record, caller = self._live.get(digest, (None, None))
        if record is None or not hmac.compare_digest(record.digest, digest):
            return None
        return caller if record.not_after is None or now < record.not_after else None

    def added(self, wish: Wish, key_id: str, digest: bytes, now: float) -> tuple[Ring, KeyRecord]:
        """With one key more. Raises Conflict where there are too many."""
        if len(self) >= MOST_KEYS:
            raise Conflict(f"a node keeps {MOST_KEYS} keys: forget some that are revoked (meshnode keys forget)")
        record = record_of(wish, key_id, digest, now)
        return Ring((*self.records, record)), record

    def revoked(self, key_id: str, now: float) -> tuple[Ring, KeyRecord]:
        """With this key good for nothing any more. Raises BadRequest."""
        found = self._find(key_id)
        if found.revoked_at is not None:
            return self, found
        ended = msgspec.structs.replace(found, revoked_at=int(now))
        return Ring(ended if one is found else one for one in self.records), ended

    def forgotten(self, key_id: str, now: float) -> tuple[Ring, KeyRecord]:
        """Without a key that is revoked or has expired. Raises BadRequest, and Conflict for one that is good."""
        found = self._find(key_id)
        if found.state(now) == "good":
            raise Conflict(f"key {key_id} is good: revoke it first (meshnode keys revoke {key_id})")
        return Ring(one for one in self.records if one is not found), found

    def _find(self, key_id: str) -> KeyRecord:
        found = next((one for one in self.records if one.id == key_id), None)
        if found is None:
            raise BadRequest(f"there is no key {key_id[:40]!r} here: `meshnode keys list` has the ids", param="key")
        return found

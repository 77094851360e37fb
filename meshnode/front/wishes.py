"""What a client asks of this node in headers of its own: a race of servers, failover, one answer for one key.

Not for what travels with a job (handlers.make_job). Counterpart: dispatch, which grants them. requests.md §3.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from typing import Final

from meshnode.access import Caller
from meshnode.access.caller import at_most
from meshnode.errors import BadRequest
from meshnode.model.job import NO_WISHES, Wishes

MOST_FANOUT: Final = 4
"""More servers for one answer would be a flood, not a race."""

FANOUT: Final = "x-meshnode-fanout"
FAILOVER: Final = "x-meshnode-failover"
KEY: Final = "idempotency-key"

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
FIRST_TOKEN: Final = "x-meshnode-first-token-timeout"  # noqa: S105 - a header
SILENCE: Final = "x-meshnode-silence-timeout"

_ASKING = frozenset({FANOUT, FAILOVER, KEY, "authorization", "x-api-key", FIRST_TOKEN, SILENCE})

_SALT: Final = secrets.token_bytes(32)
"""New with each process, so that what is kept in memory cannot be searched for a credential."""


def read_wishes(headers: Mapping[str, str], caller: Caller) -> Wishes:
    """Header names are lower case. What a key bounds, no header exceeds. Raises BadRequest."""
    if not caller.key and _ASKING.isdisjoint(headers):
        return NO_WISHES
    key = headers.get(KEY, "")
    if key and _KEY.fullmatch(key) is None:
        raise BadRequest("An idempotency key has at most 255 visible ASCII characters", param=KEY)
    return Wishes(
        fanout=_fanout(headers.get(FANOUT)),
        continues=_continues(headers.get(FAILOVER)),
        idempotency_key=key,
        tenant=caller.key or _tenant(headers),
        key=caller.key,
        first_token_s=at_most(_patience_s(headers, FIRST_TOKEN), caller.first_token_s),
        silence_s=at_most(_patience_s(headers, SILENCE), caller.silence_s),
    )


def _tenant(headers: Mapping[str, str]) -> str:
    """Where no key is needed, clients are told apart by whatever credential they were given for other servers."""
    credential = headers.get("authorization") or headers.get("x-api-key") or ""
    return hashlib.blake2b(credential.encode(), key=_SALT, digest_size=16).hexdigest() if credential else ""


def _patience_s(headers: Mapping[str, str], name: str) -> float | None:
    if (text := headers.get(name)) is None:
        return None
    try:
        asked_s = float(text)
    except ValueError:
        asked_s = 0.0
    if not 0 < asked_s <= 86_400:
        raise BadRequest(f"{name} is a number of seconds, above 0, at most 86400", param=name)
    return asked_s


def _fanout(text: str | None) -> int:
    if text is None:
        return 1
    text = text.strip()
    if len(text) != 1 or not "1" <= text <= str(MOST_FANOUT):
        raise BadRequest(f"{FANOUT} is a number of servers, from 2 to {MOST_FANOUT}", param=FANOUT)
    return int(text)


def _continues(text: str | None) -> bool:
    if text is None:
        return False
    word = text.strip().lower()
    if word not in ("continue", "error"):
        raise BadRequest(f"{FAILOVER} is one of error, continue", param=FAILOVER)
    return word == "continue"

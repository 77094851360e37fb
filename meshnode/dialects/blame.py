"""What an engine's refusal means to the client behind it: whose fault it is, and whether another server may do better.

An engine speaks to its node, so that its 401 is about the node's credentials, and its 404 about what that node offered;
only what is wrong with the request itself is for the client. Not for other nodes' errors (status.py). Counterparts:
engine.adapter, for answers, and dispatch.asking, for streams that begin with an error.
"""

from __future__ import annotations

from typing import Final

from meshnode.dialects.sse import opening
from meshnode.dialects.status import MESSAGE_CHARACTERS, error_object, from_wire
from meshnode.errors import (
    REQUEST_ERRORS,
    BadRequest,
    EngineFailed,
    EngineUnauthorized,
    Overloaded,
    RequestError,
)

CREDENTIALS: Final = frozenset({401, 403, 407})
"""The node's own, who is the engine's client: its user's were left at the entry node."""

GONE: Final = frozenset({404, 405, 410, 421})
"""What was offered here is gone since: another node may still have it."""

NODES: Final = frozenset({402, 408, 409, 423, 424, 425, 426})
"""What is between the engine and its node: an account without money, a request that came too slowly."""


def of_engine(status: int, text: str, engine: str, retry_after_s: float | None = None) -> RequestError | None:
    """The error behind an `engine`'s refusal, `text` being what it said; None where the request itself is at fault, and
    the client is best told so in the engine's own words."""
    if status in CREDENTIALS:
        # Of 401 and 407 without its text, which may quote the credential.
        said = f": {text}" if status == 403 else ""
        return EngineUnauthorized(f"{engine} refuses its node's credentials (status {status}){said}")
    if status in GONE:
        return EngineFailed(f"{engine} has no such model or route: {text}")
    if status == 429:
        return Overloaded(f"{engine} is full: {text}", retry_after_s=retry_after_s)
    if status == 501:
        return BadRequest(f"{engine} cannot do this: {text}")
    if status >= 500:
        return EngineFailed(f"{engine} failed: {text}")
    if status in NODES:
        return EngineFailed(f"{engine} refuses its node (status {status}): {text}")
    return None if status >= 400 else EngineFailed(f"{engine} answered {status}; redirects are not followed")


def from_engines_event(chunk: bytes) -> RequestError:
    """The error that an engine's answer began with (sse.first_event_is_error), by its number or its code's name."""
    event = opening(chunk)
    data = next((line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")), event)
    said = error_object(data)
    named = REQUEST_ERRORS.get(str(said.get("code")))
    number = named.status if named is not None else said.get("status")
    text = str(said.get("message") or "it answered with an error")[:MESSAGE_CHARACTERS]
    if not isinstance(number, int) or not 400 <= number <= 599:
        return EngineFailed(f"the engine failed: {text}")
    error = of_engine(number, text, "the engine")
    return error if error is not None else from_wire(number, {}, data)


__all__ = ["from_engines_event", "of_engine"]

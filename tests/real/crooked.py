"""`python -m tests.real.crooked ...`: the command line of a node that passes on what it can read, and not as it came.

What it does to a request of others, the request's own `user` says: "crooked:" and a key of TRICKS. Everything else of
it is a node like any other. Counterpart: test_owners.py.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

from meshnode.cli import app
from meshnode.dispatch import remote
from meshnode.dispatch.wire import Envelope
from meshnode.model.job import Priority
from meshnode.net import Link

MARK = "crooked:"

Change = Callable[[Envelope, bytes], tuple[Envelope, bytes]]

TRICKS: dict[str, Change] = {
    "body": lambda envelope, body: (envelope, body.replace(b"hello", b"jello")),
    "owner": lambda envelope, body: (dataclasses.replace(envelope, owner="bob"), body),
    "tier": lambda envelope, body: (dataclasses.replace(envelope, priority=Priority.HIGH), body),
    "time": lambda envelope, body: (dataclasses.replace(envelope, remaining_s=80_000.0), body),
    "none": lambda envelope, body: (dataclasses.replace(envelope, claim=""), body),
}

AGAIN = "again"
"""Pass it on as it is, leave the server once it has begun, and show it the same once more."""

_ask = remote.ask


async def ask(link: Link, envelope: Envelope, body: bytes, *rest: Any, **more: Any) -> remote.RemoteAnswer:
    """In place of `remote.ask`."""
    trick = trick_of(body) if more.get("onward") is not None else ""
    if trick == AGAIN:
        await (await _ask(link, envelope, body, *rest, **more)).aclose()
    elif trick:
        envelope, body = TRICKS[trick](envelope, body)
    return await _ask(link, envelope, body, *rest, **more)


def trick_of(body: bytes) -> str:
    """Nothing for a request that asks for none."""
    user = json.loads(body).get("user", "")
    return user.removeprefix(MARK) if user.startswith(MARK) else ""


if __name__ == "__main__":
    remote.ask = ask
    app.app()

"""Waiting for what tells this process of no event: another process's end, start or status, and what the kernel lists.

These are the only places where tests look again and again in real time. Whatever lives in this process is waited for by
its event (`mesh.changed`, a fake's `until`), under the autojump clock where no socket is in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import trio

T = TypeVar("T")

PATIENCE_S = 60.0
"""How long anything may take before a test gives up: only what hangs takes that long, even on two busy cores."""

LOOK_S = 0.02
"""Between two looks."""


def until(condition: Callable[[], T], what: str, patience_s: float = PATIENCE_S) -> T:
    """Look again and again until `condition` gives something true, and return that."""
    end = time.monotonic() + patience_s
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {patience_s:g} s: {what}"
        time.sleep(LOOK_S)
    return found


async def soon(condition: Callable[[], object], what: str) -> None:
    """The same in a trio task, beside others."""
    with trio.move_on_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - see above
            await trio.sleep(LOOK_S)
        return
    raise AssertionError(f"not within {PATIENCE_S:g} s: {what}")

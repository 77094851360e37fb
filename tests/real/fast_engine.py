"""A fake engine as a process of its own, for load: `python -m tests.real.fast_engine SLOTS` prints its URL.

It begins no answer before a line has come on its standard input, and ends when that does, however the test went.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import trio

from meshnode.testing import FakeEngine


class Gated(FakeEngine):
    """Requests are taken, and wait for `gate`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.gate = trio.Event()

    async def _generate(self, *request: Any) -> None:
        await self.gate.wait()
        await super()._generate(*request)


async def main(slots: int) -> None:
    async with trio.open_nursery() as nursery:
        fake = Gated(slots=slots)
        await nursery.start(fake.run)
        print(fake.url, flush=True)
        while True:
            await trio.lowlevel.wait_readable(sys.stdin.fileno())
            if not os.read(sys.stdin.fileno(), 100):
                os._exit(0)
            fake.gate.set()


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))

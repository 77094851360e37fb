"""A fake engine as a process of its own, for load: `python -m tests.real.fast_engine SLOTS` prints its URL.

Ends when its standard input does, however the test went.
"""

from __future__ import annotations

import os
import sys

import trio

from meshnode.testing import FakeEngine


async def main(slots: int) -> None:
    async with trio.open_nursery() as nursery:
        fake = FakeEngine(slots=slots)
        await nursery.start(fake.run)
        print(fake.url, flush=True)
        await trio.lowlevel.wait_readable(sys.stdin.fileno())
        os._exit(0)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))

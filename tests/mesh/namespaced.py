"""A node's discovery alone, run inside a network namespace by test_discover: prints what it hears as it comes.

Arguments: port, mesh (a word). It leaves at the first line of stdin.
"""

from __future__ import annotations

import sys
from functools import partial

import trio

from meshnode.config.mesh import MeshSection
from meshnode.mesh.discover import Discovery, Listening


def say(*words: object) -> None:
    print(*words, flush=True)


async def main(port: int, mesh: str) -> None:
    discovery = Discovery(
        MeshSection(),
        mesh.encode().ljust(32),
        Listening("", port, ()),
        heard=lambda address: say("heard", address),
        moved=lambda now: say("moved", *now),
        linked=lambda: False,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(discovery.run)
        await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()
    say("left")


if __name__ == "__main__":
    trio.run(partial(main, int(sys.argv[1]), sys.argv[2]))

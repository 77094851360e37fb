"""A fake engine as a process of its own: `python -m tests.real.faults.engine PORT SLOTS MODEL…`.

Each line of standard input is a Behaviour as JSON, and from then on every new request meets that; an empty line asks
how many requests run, and which it was ever sent, by the last word of each. It ends when its standard input does.
Counterpart: lab.Engine.
"""

from __future__ import annotations

import sys

import msgspec
import trio

from meshnode.testing import Behaviour, FakeEngine


async def main(port: int, slots: int, models: tuple[str, ...]) -> None:
    async with trio.open_nursery() as nursery:
        fake = FakeEngine(models=models, slots=slots, port=port)
        await nursery.start(fake.run)
        print("ready", flush=True)
        rest = b""
        while True:
            await trio.lowlevel.wait_readable(sys.stdin.fileno())
            data = sys.stdin.buffer.raw.read(65_536)  # type: ignore[attr-defined]
            if not data:
                nursery.cancel_scope.cancel()
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                obey(fake, line)


def obey(fake: FakeEngine, line: bytes) -> None:
    if line:
        fake.behaviour = msgspec.json.decode(line, type=Behaviour)
    else:
        names = [record.json["messages"][-1]["content"].split()[-1] for record in fake.records]
        print(msgspec.json.encode({"running": fake.running, "sent": names}).decode(), flush=True)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), int(sys.argv[2]), tuple(sys.argv[3:]))

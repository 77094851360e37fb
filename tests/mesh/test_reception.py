"""Which door a peer's stream is taken to, over a link and over a tunnel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from meshnode.errors import LinkClosed, ProtocolViolation
from meshnode.mesh import vouching
from meshnode.mesh.exchange import answer
from meshnode.mesh.reception import Reception
from meshnode.model.ids import NodeId
from meshnode.net import Link, LinkStream
from tests.net.kit import ALICE, ask, linked, read_all

JOB = "/v1/chat/completions"
GOSSIP = "/meshnode/gossip"


class Hall:
    """A Reception with doors that note who came: `met` has the path of each stream and where it was taken."""

    def __init__(self) -> None:
        self.met: list[str] = []
        self.breaches: list[tuple[NodeId, str]] = []
        self.fault: Exception | None = None
        doors = {GOSSIP: self._door("gossip"), vouching.PATH: self._door("evidence")}
        self.reception = Reception(doors, self._door("job"), lambda peer, why: self.breaches.append((peer, why)))

    def _door(self, name: str):  # type: ignore[no-untyped-def]
        async def take(link: Link, stream: LinkStream) -> None:
            self.met.append(name)
            if self.fault is not None:
                raise self.fault
            await answer(stream, name.encode())

        return take


@asynccontextmanager
async def asked(hall: Hall, path: str, *, sealed: bool) -> AsyncIterator[LinkStream]:
    take = hall.reception.sealed if sealed else hall.reception.neighbour
    async with linked(serve=take) as pair:
        yield await pair.dialer.request(ask(path), b"")


@pytest.mark.parametrize(
    ("path", "sealed", "taken"),
    [
        (JOB, False, "job"),
        (JOB, True, "job"),
        (GOSSIP, False, "gossip"),
        (vouching.PATH, False, "evidence"),
        (vouching.PATH, True, "evidence"),
    ],
)
async def test_a_stream_is_taken_to_its_door(autojump_clock: MockClock, path: str, sealed: bool, taken: str) -> None:
    hall = Hall()
    async with asked(hall, path, sealed=sealed) as stream:
        assert (await stream.head())[":status"] == "200"
        assert await read_all(stream) == taken.encode()
    assert (hall.met, hall.breaches) == ([taken], [])


@pytest.mark.parametrize(
    ("path", "sealed", "why"),
    [
        ("/meshnode/future", False, b"another version"),
        ("/meshnode/future", True, b"for jobs"),
        (GOSSIP, True, b"for jobs"),
    ],
)
async def test_what_has_no_door_there_is_refused_in_words(
    autojump_clock: MockClock, path: str, sealed: bool, why: bytes
) -> None:
    hall = Hall()
    async with asked(hall, path, sealed=sealed) as stream:
        assert (await stream.head())[":status"] == "403"
        assert why in await read_all(stream)
    assert (hall.met, hall.breaches) == ([], [])


@pytest.mark.parametrize(
    ("fault", "breaches"),
    [(ProtocolViolation("nonsense"), [(ALICE, "nonsense")]), (LinkClosed("the stream was reset"), [])],
)
async def test_only_who_breaks_the_rules_at_a_door_is_held_to_account(
    autojump_clock: MockClock, fault: Exception, breaches: list[tuple[NodeId, str]]
) -> None:
    hall = Hall()
    hall.fault = fault
    async with asked(hall, GOSSIP, sealed=False):
        await trio.testing.wait_all_tasks_blocked()
    assert (hall.met, hall.breaches) == (["gossip"], breaches)

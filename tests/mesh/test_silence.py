"""What a node says of a dial that broke: the likely cause first, and a wrong secret only where something proves it."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from meshnode.errors import HandshakeFailed, LinkRefused
from tests.kit.world import Papers, World, WorldNode, world

LIKELY = "who listens there is stopping or stands still, or is another program"


async def stub(where: World, says: bytes, *, closes: bool = True) -> None:
    """Listens as `stub`; says this to whoever dials, and closes or keeps still."""
    (listener,) = where.net.pipes("stub").listeners
    while True:
        stream = await listener.accept()
        await stream.receive_some()
        await stream.send_all(says)
        if closes:
            await stream.aclose()


async def fault_of(node: WorldNode, *addresses: str) -> HandshakeFailed:
    with pytest.raises(HandshakeFailed) as caught:
        await node.member.mesh._standing.connect(addresses, None)
    return caught.value


@pytest.mark.parametrize("closes", [True, False], ids=["cut", "still"])
async def test_silence_is_first_of_all_a_process_that_stops_or_another_program(
    tmp_path: Path, autojump_clock: MockClock, closes: bool
) -> None:
    async with world(tmp_path) as where, trio.open_nursery() as nursery:
        node = await where.add("node")
        nursery.start_soon(lambda: stub(where, b"", closes=closes))
        await trio.testing.wait_all_tasks_blocked()
        said = str(await fault_of(node, "stub:6375"))
        assert ("closed the connection before it said anything" if closes else "no handshake within 5 s") in said
        assert LIKELY in said and said.index(LIKELY) < said.index("new invite")
        assert "secret" not in said
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (b"\x00\x60" + b"z" * 96, "another secret, mesh or version at the other end"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "a handshake message of"),
        (b"\x00\x60" + b"z" * 9, "closed the connection in the middle of the handshake"),
    ],
    ids=["wrong", "http", "half"],
)
async def test_an_answer_that_came_is_judged_by_itself(
    tmp_path: Path, autojump_clock: MockClock, says: bytes, told: str
) -> None:
    async with world(tmp_path) as where, trio.open_nursery() as nursery:
        node = await where.add("node")
        nursery.start_soon(stub, where, says)
        await trio.testing.wait_all_tasks_blocked()
        said = str(await fault_of(node, "stub:6375"))
        assert told in said and LIKELY not in said
        assert ("secret" in said) == ("another secret" in told)
        nursery.cancel_scope.cancel()


async def test_who_refuses_in_words_is_quoted_and_nothing_is_guessed(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        await where.add("strict", settings={"mesh": {"trust": "pinned"}})
        node = await where.add("node", papers=Papers())
        said = await fault_of(node, "strict:6375")
        assert isinstance(said, LinkRefused) and "pinned" in str(said)
        assert LIKELY not in str(said) and "secret" not in str(said)


@pytest.mark.parametrize("order", [("strict:6375", "stub:6375"), ("stub:6375", "strict:6375")])
async def test_a_refusal_in_words_is_not_lost_behind_silence_at_another_address(
    tmp_path: Path, autojump_clock: MockClock, order: tuple[str, str]
) -> None:
    async with world(tmp_path) as where, trio.open_nursery() as nursery:
        await where.add("strict", settings={"mesh": {"trust": "pinned"}})
        node = await where.add("node", papers=Papers())
        nursery.start_soon(lambda: stub(where, b"", closes=False))
        await trio.testing.wait_all_tasks_blocked()
        said = await fault_of(node, *order)
        assert isinstance(said, LinkRefused) and "pinned" in str(said)
        assert LIKELY not in str(said) and "secret" not in str(said)
        nursery.cancel_scope.cancel()

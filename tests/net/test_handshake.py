"""Who gets in over a pipe, and what a stranger can read."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from meshnode.errors import CertificateRefused, HandshakeFailed
from meshnode.model.ids import NodeId
from meshnode.net import Authenticated, Link, initiate, respond
from meshnode.noise import Preface, Responder, Secrets, StaticKey, prologue
from tests.net.kit import (
    ALICE,
    BOB,
    HINT,
    INVITE,
    MESH,
    SECRETS,
    SECTION,
    ask,
    check,
    check_join,
    echo,
    initiator,
    read_all,
    responder,
)


async def collect(stream: trio.abc.Stream, into: list[bytes]) -> None:
    while data := await stream.receive_some(4096):
        into.append(bytes(data))


async def knock(*parts: bytes) -> list[bytes]:
    """What a stranger reads who says `parts`."""
    left, right = trio.testing.memory_stream_pair()
    heard: list[bytes] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect, left, heard)

        async def talk() -> None:
            try:
                for part in parts:
                    await left.send_all(part)
            except trio.BrokenResourceError:
                pass

        nursery.start_soon(talk)
        with pytest.raises(HandshakeFailed):
            await respond(right, responder(), check, check_join=check_join, timeout_s=5)
    return heard


async def test_both_learn_who_the_other_is_and_the_link_works() -> None:
    left, right = trio.testing.memory_stream_pair()
    found: dict[str, Authenticated] = {}
    async with trio.open_nursery() as nursery:

        async def listen() -> None:
            found["right"] = await respond(right, responder(), check, timeout_s=5)
            await Link(found["right"], echo, SECTION).run()

        nursery.start_soon(listen)
        found["left"] = await initiate(left, initiator(), check, timeout_s=5, expect=BOB)
        link = Link(found["left"], echo, SECTION)
        await nursery.start(link.run)
        assert await read_all(await link.request(ask(), b"hello")) == b"hello"
        nursery.cancel_scope.cancel()
    assert (found["left"].peer, found["left"].membership, found["left"].initiator) == (BOB, "member", True)
    assert (found["right"].peer, found["right"].hint, found["right"].initiator) == (ALICE, None, False)


async def test_a_joiner_is_told_from_a_member() -> None:
    left, right = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def dial() -> None:
            with pytest.raises(HandshakeFailed, match="refused this node"):
                await initiate(left, initiator(secrets=INVITE, hint=HINT), check, timeout_s=5)

        nursery.start_soon(dial)
        found = await respond(right, responder(), check, check_join=check_join, timeout_s=5)
        assert (found.hint, found.peer, found.membership) == (HINT, ALICE, None)
        await right.aclose()


async def test_nobody_joins_where_joining_is_off() -> None:
    left, right = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def dial() -> None:
            with pytest.raises(HandshakeFailed):
                await initiate(left, initiator(secrets=INVITE, hint=HINT), check, timeout_s=5)

        nursery.start_soon(dial)
        with pytest.raises(HandshakeFailed, match="nobody joins"):
            await respond(right, responder(), check, timeout_s=5)


@pytest.mark.parametrize(
    "parts",
    [
        [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"],
        [b"\x01\x00\x30" + b"z" * 48],
        [b"\x02" + HINT + b"\x00\x30" + b"z" * 48],
        [b"\x01", b"\xff\xff" + b"z" * 3000],
        [b"\x16\x03\x01\x02\x00\x01\x00"],
    ],
    ids=["http", "member", "joiner", "huge", "tls"],
)
async def test_a_stranger_reads_nothing(parts: list[bytes], autojump_clock: trio.testing.MockClock) -> None:
    assert await knock(*parts) == []


async def test_a_stranger_with_another_secret_reads_nothing() -> None:
    machine = initiator(secrets=Secrets.derive(b"?" * 32, b"network"))
    assert await knock(machine.bytes_to_send()) == []


async def test_a_slow_handshake_ends_after_its_time(autojump_clock: trio.testing.MockClock) -> None:
    begin = trio.current_time()
    left, right = trio.testing.memory_stream_pair()
    machine = initiator()

    async def drip() -> None:
        try:
            for byte in machine.bytes_to_send():
                await left.send_all(bytes([byte]))
                await trio.sleep(1)
        except trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip)
        with pytest.raises(HandshakeFailed, match="within 5 s"):
            await respond(right, responder(), check, timeout_s=5)
        assert trio.current_time() - begin == 5


async def test_a_silent_listener_ends_the_dial_after_its_time(autojump_clock: trio.testing.MockClock) -> None:
    left, _right = trio.testing.memory_stream_pair()
    with pytest.raises(HandshakeFailed, match="within 5 s"):
        await initiate(left, initiator(), check, timeout_s=5)


async def fail_both(me: NodeId = ALICE, other: NodeId = BOB, expect: NodeId | None = None) -> tuple[str, str]:
    """The faults that the dialer and the listener report."""
    left, right = trio.testing.memory_stream_pair()
    faults = {}

    async def dial() -> None:
        with pytest.raises(HandshakeFailed) as fault:
            await initiate(left, initiator(me), check, timeout_s=5, expect=expect)
        faults["dialer"] = str(fault.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        with pytest.raises(HandshakeFailed) as fault:
            await respond(right, responder(other), check, timeout_s=5)
        faults["listener"] = str(fault.value)
    return faults["dialer"], faults["listener"]


async def test_another_node_than_expected_never_learns_who_asked() -> None:
    dialer, listener = await fail_both(expect=ALICE)
    assert "was expected" in dialer
    assert "closed the connection" in listener


async def test_a_refused_credential_of_the_listener() -> None:
    dialer, listener = await fail_both(other=NodeId(b"x" * 32))
    assert "a revoked node" in dialer
    assert "closed the connection" in listener


async def test_a_refused_credential_of_the_dialer_is_noticed_by_both() -> None:
    dialer, listener = await fail_both(me=NodeId(b"x" * 32))
    assert f"{BOB.short} refused this node: a revoked node" in dialer
    assert "a revoked node" in listener


async def test_one_who_comes_with_an_invite_where_nobody_joins_is_told() -> None:
    left, right = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def listen() -> None:
            with pytest.raises(HandshakeFailed, match="nobody joins here"):
                await respond(right, responder(), check, timeout_s=5)

        nursery.start_soon(listen)
        with pytest.raises(HandshakeFailed, match="refused this node: nobody joins here"):
            await initiate(left, initiator(secrets=INVITE, hint=HINT), check, timeout_s=5)


async def test_the_words_of_a_refusal_are_sealed_and_short() -> None:
    """A passive reader of the wire sees no reason; the dialer sees one printable line."""

    def refuse(payload: bytes, remote_static: bytes) -> tuple[NodeId, None]:
        raise CertificateRefused("because\x1b[2J" + "!" * 5000)

    left, right = trio.testing.memory_stream_pair()
    wire: list[bytes] = []
    send = right.send_all

    async def tapped(data: bytes) -> None:
        wire.append(bytes(data))
        await send(data)

    right.send_all = tapped  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:

        async def listen() -> None:
            with pytest.raises(HandshakeFailed, match="because"):
                await respond(right, responder(), refuse, timeout_s=5)

        nursery.start_soon(listen)
        with pytest.raises(HandshakeFailed) as told:
            await initiate(left, initiator(), check, timeout_s=5)
    assert str(told.value).endswith("refused this node: because[2J" + "!" * (300 - 11))
    assert b"because" not in b"".join(wire)


async def test_a_refused_node_that_does_not_read_keeps_nobody(autojump_clock: trio.testing.MockClock) -> None:
    left, right = trio.testing.memory_stream_pair()

    def refuse(payload: bytes, remote_static: bytes) -> tuple[NodeId, None]:
        async def stuck(data: bytes) -> None:
            await trio.sleep_forever()

        right.send_all = stuck  # type: ignore[method-assign]
        raise CertificateRefused("no")

    begin = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def listen() -> None:
            with pytest.raises(HandshakeFailed, match="refused: no"):
                await respond(right, responder(), refuse, timeout_s=5)

        nursery.start_soon(listen)
        with pytest.raises(HandshakeFailed, match="refused this node's credential"):
            await initiate(left, initiator(), check, timeout_s=5)
    assert trio.current_time() - begin <= 1


@pytest.mark.parametrize("record", [b"\x00\x20" + b"garbage!" * 4, b"\x00\x05short", b"\x00\x00\x00"])
async def test_a_forged_first_record_is_no_acceptance(record: bytes) -> None:
    left, right = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def listen() -> None:
            await respond(right, responder(), check, timeout_s=5)
            await right.send_all(record)

        nursery.start_soon(listen)
        with pytest.raises(HandshakeFailed, match="record"):
            await initiate(left, initiator(), check, timeout_s=5)


async def test_a_first_record_in_pieces_is_waited_for_whole() -> None:
    left, right = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def listen() -> None:
            found = await respond(right, responder(), check, timeout_s=5)
            for byte in found.transport.seal(b"\x00first") + found.transport.seal(b"\x00second"):
                await right.send_all(bytes([byte]))

        nursery.start_soon(listen)
        found = await initiate(left, initiator(), check, timeout_s=5)
        assert found.transport.open(found.surplus)[:1] == [b"\x00first"]


async def test_a_node_that_cannot_show_itself_fails_in_words() -> None:
    def ended(preface: Preface) -> bytes:
        raise CertificateRefused("this node's membership has ended")

    left, right = trio.testing.memory_stream_pair()
    machine = Responder(lambda _: SECRETS, StaticKey.generate(), ended, lambda _: prologue(MESH))
    await left.send_all(initiator().bytes_to_send())
    with pytest.raises(HandshakeFailed, match="membership has ended"):
        await respond(right, machine, check, timeout_s=5)


async def test_a_cancelled_handshake_closes_its_stream(autojump_clock: trio.testing.MockClock) -> None:
    left, right = trio.testing.memory_stream_pair()
    with trio.move_on_after(1):
        await respond(right, responder(), check, timeout_s=5)
    with pytest.raises(trio.ClosedResourceError):
        await right.send_all(b"x")
    assert await left.receive_some(1) == b""

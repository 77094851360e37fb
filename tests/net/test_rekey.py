"""Links whose keys are made anew while streams run on them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing

from meshnode.errors import CertificateRefused, HandshakeFailed, LinkClosed
from meshnode.model.ids import NodeId
from meshnode.net import Link, LinkStream
from tests.net.kit import (
    ALICE,
    BOB,
    OK,
    SECTION,
    Linked,
    ask,
    authenticate,
    check,
    echo,
    linked,
    no_answer,
    read_all,
    rekeying,
)

OFTEN = replace(SECTION, rekey_s=100)
BOTH = (rekeying(ALICE), rekeying(BOB))


def refusing(payload: bytes, remote_static: bytes) -> tuple[NodeId, Any]:
    raise CertificateRefused("it was revoked")


async def test_fifty_streams_run_through_several_handshakes_and_lose_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with linked(section=OFTEN, rekeys=BOTH) as pair:
        whole = 0

        async def talk(link: Link, number: int) -> None:
            """Small pieces with pauses, over more than four periods."""
            nonlocal whole
            stream = await link.request(ask(), end=False)
            said, heard = b"", b""
            for part in range(250):
                text = f"{number}:{part};".encode()
                await stream.send(text)
                said += text
                if part % 7 == 0:
                    heard += await stream.receive_some()
                await trio.sleep(2)
            await stream.finish()
            heard += await read_all(stream)
            whole += heard == said

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(talk, pair.dialer if number % 2 else pair.listener, number)
        await trio.testing.wait_all_tasks_blocked()
        assert whole == 50
        assert pair.dialer.rekeyed == pair.listener.rekeyed >= 4
        assert pair.dialer.reason is None


NOW = replace(SECTION, rekey_s=1e-9)
"""Due whenever the dialer is asked, which the tests do by hand where time is real."""


async def renew(pair: Linked) -> None:
    """Begin a handshake and wait until both ends have finished it."""
    ends = (pair.dialer, pair.listener)
    done = [trio.Event() for _ in ends]
    for end, event in zip(ends, done, strict=True):
        end._on_renewed = lambda _, event=event: event.set()
    pair.dialer._channel.tick(trio.current_time())
    pair.dialer.flush()
    for event in done:
        await event.wait()


async def test_bulk_both_ways_across_a_handshake_arrives_whole() -> None:
    """Over real sockets: records are cut anywhere, and the writer always has more to send."""
    body = bytes(range(256)) * 20_000
    async with linked(tcp=True, section=NOW, rekeys=BOTH) as pair:
        whole: list[bool] = []

        async def one(link: Link) -> None:
            stream = await link.request(ask(), end=False)

            async def say() -> None:
                await stream.send(body)
                await stream.finish()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(say)
                got = await stream.receive_some()
                if link is pair.dialer:
                    nursery.start_soon(renew, pair)
                whole.append(got + await read_all(stream) == body)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, pair.dialer)
            nursery.start_soon(one, pair.listener)
        assert whole == [True, True]
        assert pair.dialer.rekeyed == pair.listener.rekeyed == 1


async def test_the_fresh_membership_is_told(autojump_clock: trio.testing.MockClock) -> None:
    count = 0

    def counting(payload: bytes, remote_static: bytes) -> tuple[NodeId, Any]:
        nonlocal count
        count += 1
        return NodeId(payload), f"membership {count}"

    renewed: list[tuple[Link, Any]] = []
    left, right = trio.testing.memory_stream_pair()
    make_dialer, make_listener = await authenticate(left, right, OFTEN, rekeying(ALICE, counting), rekeying(BOB))
    dialer, listener = make_dialer(echo), make_listener(echo)
    dialer._on_renewed = lambda link: renewed.append((link, link.membership))
    async with trio.open_nursery() as nursery:
        await nursery.start(dialer.run)
        await nursery.start(listener.run)
        assert dialer.keys_age_s == 0
        await trio.sleep(80)
        assert (dialer.membership, dialer.rekeyed, dialer.keys_age_s) == ("member", 0, 80)
        await trio.sleep(130)
        assert renewed == [(dialer, "membership 1"), (dialer, "membership 2")]
        assert dialer.keys_age_s < 100
        nursery.cancel_scope.cancel()


async def test_without_terms_nothing_is_renewed(autojump_clock: trio.testing.MockClock) -> None:
    async with linked(section=OFTEN) as pair:
        await trio.sleep(1000)
        assert pair.dialer.rekeyed == 0
        assert pair.dialer.reason is pair.listener.reason is None


async def end_of(pair_section: Any, rekeys: Any, wait_s: float = 1000) -> tuple[Link, Link, str]:
    """Both links after one that ends by itself, and what a stream was told."""
    async with linked(no_answer, section=pair_section, rekeys=rekeys) as pair:
        stream = await pair.dialer.request(ask())
        with pytest.raises(LinkClosed) as told:
            await stream.head()
        await trio.sleep(5)
        return pair.dialer, pair.listener, str(told.value)


async def test_a_listener_that_refuses_tells_the_dialer_why(autojump_clock: trio.testing.MockClock) -> None:
    dialer, listener, told = await end_of(OFTEN, (rekeying(ALICE), rekeying(BOB, refusing)))
    assert isinstance(dialer.reason, HandshakeFailed) and isinstance(listener.reason, HandshakeFailed)
    assert "refused this node: it was revoked" in str(dialer.reason)
    assert "it was revoked" in told
    assert "credential is refused" in str(listener.reason)


async def test_a_refusal_is_heard_over_sockets_and_under_load() -> None:
    """What the dialer has sent meanwhile lies unread at the listener, which must not cost the listener's last words."""

    async def pour(link: Link, stream: LinkStream) -> None:
        await stream.send_head(OK)
        while True:
            await stream.send(b"x" * 10_000)

    async def take(link: Link) -> None:
        stream = await link.request(ask())
        try:
            while True:
                await stream.receive_some()
        except LinkClosed:
            return

    async with linked(pour, pour, NOW, tcp=True, rekeys=(rekeying(ALICE), rekeying(BOB, refusing))) as pair:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, pair.dialer)
            nursery.start_soon(take, pair.listener)
            while not (pair.dialer.mux.unread or pair.listener.mux.unread):
                await trio.lowlevel.checkpoint()
            pair.dialer._channel.tick(trio.current_time())
            pair.dialer.flush()
        assert "refused this node: it was revoked" in str(pair.dialer.reason)
        assert "credential is refused" in str(pair.listener.reason)


async def test_a_dialer_that_refuses_ends_the_link(autojump_clock: trio.testing.MockClock) -> None:
    dialer, listener, _ = await end_of(OFTEN, (rekeying(ALICE, refusing), rekeying(BOB)))
    assert "it was revoked" in str(dialer.reason)
    assert isinstance(listener.reason, LinkClosed)


async def test_a_refused_peer_that_does_not_hang_up_is_left(autojump_clock: trio.testing.MockClock) -> None:
    left, right = trio.testing.memory_stream_pair()
    make_dialer, make_listener = await authenticate(left, right, OFTEN, rekeying(ALICE), rekeying(BOB, refusing))
    dialer, listener = make_dialer(echo), make_listener(echo)
    open_ = dialer._channel.open

    def hear_no_refusal(data: bytes, now: float) -> list[bytes]:
        return [] if dialer._channel._next is not None else open_(data, now)

    dialer._channel.open = hear_no_refusal  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        await nursery.start(dialer.run)
        await nursery.start(listener.run)
        await trio.sleep(OFTEN.rekey_s + OFTEN.ping_s + 2)
        assert isinstance(listener.reason, HandshakeFailed)
        nursery.cancel_scope.cancel()


async def test_a_dialer_that_never_renews_loses_the_link(autojump_clock: trio.testing.MockClock) -> None:
    begin = trio.current_time()
    dialer, listener, _ = await end_of(OFTEN, (None, rekeying(BOB)))
    assert "grow old" in str(listener.reason)
    assert isinstance(dialer.reason, LinkClosed)
    assert trio.current_time() - begin <= 2 * OFTEN.rekey_s + 6 * OFTEN.handshake_timeout_s + 2 * OFTEN.ping_s + 5


async def test_a_handshake_that_is_never_answered_ends_the_link(autojump_clock: trio.testing.MockClock) -> None:
    async with linked(no_answer, section=OFTEN, rekeys=BOTH) as pair:

        def without_handshakes(data: bytes, now: float) -> list[bytes]:
            # As a listener that ignores them would: it reads everything and answers pings.
            channel = pair.listener._channel
            records = channel._receiving.open(data)
            return [record for record in records if record[0] < 2]

        pair.listener._channel.open = without_handshakes  # type: ignore[method-assign]
        await trio.sleep(OFTEN.rekey_s + 6 * OFTEN.handshake_timeout_s + 2 * OFTEN.ping_s)
        assert "no new keys" in str(pair.dialer.reason)


async def test_check_is_asked_anew_each_time(autojump_clock: trio.testing.MockClock) -> None:
    """Revoked between two handshakes: the next one ends the link."""
    revoked = False

    def judge(payload: bytes, remote_static: bytes) -> tuple[NodeId, Any]:
        return refusing(payload, remote_static) if revoked else check(payload, remote_static)

    async with linked(section=OFTEN, rekeys=(rekeying(ALICE), rekeying(BOB, judge))) as pair:
        await trio.sleep(150)
        assert pair.listener.rekeyed == 1
        assert pair.listener.reason is None
        revoked = True
        await trio.sleep(150)
        assert "it was revoked" in str(pair.listener.reason)

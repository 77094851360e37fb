"""A Link against a Link, mostly in virtual time over memory pipes, once over real sockets."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
import trio.testing

from meshnode.errors import BadRequest, LinkClosed, ProtocolViolation, StreamReset
from meshnode.mux import NO_ERROR, REFUSED_STREAM
from meshnode.net import Link, LinkStream
from tests.net.kit import ALICE, BOB, OK, SECTION, ask, authenticate, echo, linked, no_answer, read_all


async def quiet() -> None:
    await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize("tcp", [False, True])
async def test_both_ends_ask_at_once(tcp: bool) -> None:
    async with linked(tcp=tcp) as pair:
        assert (pair.dialer.peer, pair.listener.peer) == (BOB, ALICE)
        answers: list[tuple[bytes, str]] = []

        async def one(link: Link, text: bytes) -> None:
            stream = await link.request(ask(), text)
            assert (await stream.head())[":status"] == "200"
            answers.append((await read_all(stream), stream.trailers["x-size"]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, pair.dialer, b"to the listener")
            nursery.start_soon(one, pair.listener, b"to the dialer!")
        assert sorted(answers) == [(b"to the dialer!", "14"), (b"to the listener", "15")]
        await pair.dialer.drained()
        await pair.listener.drained()


@pytest.mark.parametrize("tcp", [False, True])
async def test_two_hundred_streams_at_once_keep_their_bytes_apart(tcp: bool) -> None:
    async with linked(tcp=tcp) as pair:
        right = 0

        async def one(number: int) -> None:
            nonlocal right
            stream = await pair.dialer.request(ask(), end=False)
            body = b""
            for part in range(10):
                text = f"{number}:{part};".encode()
                await stream.send(text)
                body += text
            await stream.finish()
            got = await read_all(stream)
            right += got == body

        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(one, number)
        assert right == 200


@pytest.mark.parametrize("tcp", [False, True])
async def test_a_body_larger_than_every_window_arrives_whole(tcp: bool) -> None:
    body = bytes(range(256)) * 8192
    async with linked(tcp=tcp) as pair:
        stream = await pair.dialer.request(ask(), end=False)
        got = b""

        async def read() -> None:
            nonlocal got
            got = await read_all(stream)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await stream.send(body)
            await stream.finish()
        assert got == body


async def test_the_request_reaches_the_handler_with_its_head_and_body() -> None:
    seen: list[tuple[str, bytes]] = []

    async def serve(link: Link, stream: LinkStream) -> None:
        seen.append(((await stream.head())[":path"], await read_all(stream)))
        await stream.send_head([(":status", "404")])
        await stream.finish()

    async with linked(serve) as pair:
        stream = await pair.dialer.request(ask("/v1/models"))
        assert (await stream.head())[":status"] == "404"
        assert await stream.receive_some() == b""
        assert await stream.receive_some() == b""
        assert stream.over
    assert seen == [("/v1/models", b"")]


async def test_everything_that_has_arrived_is_joined(autojump_clock: trio.testing.MockClock) -> None:
    async def serve(link: Link, stream: LinkStream) -> None:
        await stream.send_head(OK)
        for _ in range(5):
            await stream.send(b"token ")
            await trio.sleep(0.1)
        await trio.sleep_forever()

    async with linked(serve) as pair:
        stream = await pair.dialer.request(ask())
        await trio.sleep(1)
        assert await stream.receive_some() == b"token " * 5


async def test_a_stalled_reader_stops_no_other_and_bounds_memory(autojump_clock: trio.testing.MockClock) -> None:
    sent = {"/stalled": 0, "/read": 0}

    async def serve(link: Link, stream: LinkStream) -> None:
        path = (await stream.head())[":path"]
        await stream.send_head(OK)
        for _ in range(1000):
            await stream.send(b"x" * 10_000)
            sent[path] += 10_000
        await stream.finish()

    async with linked(serve) as pair:
        stalled = await pair.dialer.request(ask("/stalled"))
        read = await pair.dialer.request(ask("/read"))
        assert len(await read_all(read)) == 10_000_000
        assert sent["/stalled"] <= SECTION.stream_window_bytes + 10_000
        assert pair.listener.room() > 0
        assert len(await read_all(stalled)) == 10_000_000


async def test_producers_wait_for_the_write_buffer(autojump_clock: trio.testing.MockClock) -> None:
    """The pipe is stopped by not letting the other end run; the sum of what is queued stays bounded."""
    left, right = trio.testing.memory_stream_pair()
    section = replace(SECTION, write_buffer_bytes=100_000)
    make_dialer, make_listener = await authenticate(left, right, section)
    dialer, listener = make_dialer(echo), make_listener(echo)
    gate = trio.Event()
    most = 0

    carry = left.send_stream.send_all_hook
    assert carry is not None

    async def stopped() -> None:
        await gate.wait()
        await carry()

    left.send_stream.send_all_hook = stopped

    async def one() -> None:
        nonlocal most
        stream = await dialer.request(ask(), end=False)
        for _ in range(20):
            await stream.send(b"x" * 9_000)
            most = max(most, dialer.mux.queued)
        await stream.finish()
        sent.append(stream)

    sent: list[LinkStream] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(dialer.run)
        await nursery.start(listener.run)
        async with trio.open_nursery() as askers:
            for _ in range(30):
                askers.start_soon(one)
            await trio.sleep(1)
            assert sent == []
            assert 0 < most <= 100_000
            gate.set()
        assert len(sent) == 30
        nursery.cancel_scope.cancel()


async def test_a_stream_nobody_reads_is_cancelled_after_its_time(autojump_clock: trio.testing.MockClock) -> None:
    ended: list[float] = []

    async def serve(link: Link, stream: LinkStream) -> None:
        await stream.send_head(OK)
        try:
            while True:
                await stream.send(b"x" * 10_000)
        finally:
            ended.append(trio.current_time())

    async with linked(serve) as pair:
        begin = trio.current_time()
        stream = await pair.dialer.request(ask())
        await trio.sleep(SECTION.credit_timeout_s + 5)
        assert [at - begin for at in ended] == [SECTION.credit_timeout_s]
        with pytest.raises(StreamReset):
            await read_all(stream)
        assert pair.listener.reason is None


async def test_cancelling_the_asker_cancels_the_server(autojump_clock: trio.testing.MockClock) -> None:
    cancelled = trio.Event()

    async def serve(link: Link, stream: LinkStream) -> None:
        try:
            await stream.send_head(OK)
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with linked(serve) as pair:
        stream = await pair.dialer.request(ask())
        await stream.head()
        await stream.aclose()
        await cancelled.wait()
        await quiet()
        assert pair.dialer.streams == pair.listener.streams == 0
        with pytest.raises(StreamReset):
            await stream.receive_some()


async def test_a_request_cancelled_while_its_body_waits_resets_the_stream(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with linked(no_answer) as pair:
        with trio.move_on_after(1) as scope:
            await pair.dialer.request(ask(), b"x" * 1_000_000)
        assert scope.cancelled_caught
        await quiet()
        assert pair.listener.streams == 0
        assert pair.dialer.mux.queued == 0


async def test_a_server_that_leaves_early_resets(autojump_clock: trio.testing.MockClock) -> None:
    async def serve(link: Link, stream: LinkStream) -> None:
        await stream.send_head(OK)
        await stream.send(b"half")

    async with linked(serve) as pair:
        stream = await pair.dialer.request(ask())
        got = b""
        with pytest.raises(StreamReset):
            while True:
                got += await stream.receive_some()
        assert got in (b"", b"half")


async def test_an_answer_given_before_the_body_was_read_arrives(autojump_clock: trio.testing.MockClock) -> None:
    async def serve(link: Link, stream: LinkStream) -> None:
        await stream.send_head([(":status", "413")])
        await stream.send(b"too large")
        await stream.finish([("meshnode-done", "1")])

    async with linked(serve) as pair:
        stream = await pair.dialer.request(ask(), b"x" * 2_000_000)
        assert (await stream.head())[":status"] == "413"
        assert await read_all(stream) == b"too large"
        assert stream.trailers == {"meshnode-done": "1"}
        await quiet()
        assert pair.dialer.streams == pair.listener.streams == 0


async def test_a_crash_of_one_handler_ends_its_stream_and_not_the_link(
    autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async def serve(link: Link, stream: LinkStream) -> None:
        if (await stream.head())[":path"] == "/crash":
            raise KeyError("a fault of ours")
        await echo(link, stream)

    async with linked(serve) as pair:
        fine = await pair.dialer.request(ask(), end=False)
        bad = await pair.dialer.request(ask("/crash"))
        with pytest.raises(StreamReset) as reset:
            await bad.head()
        assert reset.value.code == 2
        await fine.send(b"still here")
        await fine.finish()
        assert await read_all(fine) == b"still here"
        assert pair.listener.reason is None
    said = capsys.readouterr().out
    assert "KeyError" in said and "a fault of ours" not in said


async def test_a_handler_that_reads_a_dead_stream_is_no_crash(
    autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async def serve(link: Link, stream: LinkStream) -> None:
        with trio.CancelScope(shield=True):
            await read_all(stream)

    async with linked(serve) as pair:
        stream = await pair.dialer.request(ask(), end=False)
        await quiet()
        stream.reset()
        await quiet()
        assert pair.listener.streams == 0
    assert "crashed" not in capsys.readouterr().out


async def test_pings_give_the_round_trip_time(autojump_clock: trio.testing.MockClock) -> None:
    left, right = trio.testing.memory_stream_pair()
    make_dialer, make_listener = await authenticate(left, right)
    dialer, listener = make_dialer(echo), make_listener(echo)

    carry = right.send_stream.send_all_hook
    assert carry is not None

    async def slow() -> None:
        await trio.sleep(0.05)
        await carry()

    right.send_stream.send_all_hook = slow
    async with trio.open_nursery() as nursery:
        await nursery.start(dialer.run)
        await nursery.start(listener.run)
        assert dialer.rtt_s is None
        await trio.sleep(SECTION.ping_s * 3)
        assert dialer.rtt_s is not None
        # Both ends ping at the same instant, so the answer may wait behind one send.
        assert 0.05 <= dialer.rtt_s <= 0.1 + 1e-6
        nursery.cancel_scope.cancel()


async def test_a_silent_peer_is_dead_after_three_pings(autojump_clock: trio.testing.MockClock) -> None:
    left, right = trio.testing.memory_stream_pair()
    make_dialer, _ = await authenticate(left, right)
    dialer = make_dialer(echo)
    failed: list[str] = []

    async with trio.open_nursery() as nursery:
        await nursery.start(dialer.run)
        begin = trio.current_time()

        async def one() -> None:
            stream = await dialer.request(ask())
            try:
                await stream.head()
            except LinkClosed as error:
                failed.append(str(error))

        nursery.start_soon(one)
    assert trio.current_time() - begin == SECTION.ping_s * SECTION.ping_misses
    assert isinstance(dialer.reason, LinkClosed)
    assert "no sign of life" in failed[0]


async def test_a_peer_that_falls_silent_later_is_found_dead_too(autojump_clock: trio.testing.MockClock) -> None:
    async def nowhere() -> None:
        await trio.lowlevel.checkpoint()

    left, right = trio.testing.memory_stream_pair()
    make_dialer, make_listener = await authenticate(left, right)
    dialer, listener = make_dialer(echo), make_listener(echo)
    async with trio.open_nursery() as nursery:
        await nursery.start(dialer.run)
        await nursery.start(listener.run)
        await trio.sleep(SECTION.ping_s * 100 + 1)
        assert dialer.reason is None
        right.send_stream.send_all_hook = nowhere
        await trio.sleep(SECTION.ping_s * (SECTION.ping_misses + 1))
        assert dialer.reason is not None
        nursery.cancel_scope.cancel()


async def test_the_end_of_the_pipe_ends_everything_on_the_link(autojump_clock: trio.testing.MockClock) -> None:
    served = trio.Event()
    ended = trio.Event()

    async def serve(link: Link, stream: LinkStream) -> None:
        served.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with linked(serve) as pair:
        reader = await pair.dialer.request(ask())
        writer = await pair.dialer.request(ask(), end=False)
        await served.wait()
        ends = 0

        async def fails(call: object) -> None:
            nonlocal ends
            with pytest.raises(LinkClosed):
                await call  # type: ignore[misc]
            ends += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails, reader.receive_some())
            nursery.start_soon(fails, writer.send(b"x" * 1_000_000))
            await quiet()
            await trio.aclose_forcefully(pair.right)
        assert ends == 2
        await ended.wait()
        with pytest.raises(LinkClosed):
            await pair.dialer.request(ask())
        await pair.dialer.drained()
        assert isinstance(pair.listener.reason, LinkClosed)


async def test_leaving_a_link_ends_it_at_both_ends(autojump_clock: trio.testing.MockClock) -> None:
    left, right = trio.testing.memory_stream_pair()
    make_dialer, make_listener = await authenticate(left, right)
    dialer, listener = make_dialer(echo), make_listener(no_answer)
    async with trio.open_nursery() as nursery:
        await nursery.start(listener.run)
        async with trio.open_nursery() as inner:
            await inner.start(dialer.run)
            stream = await dialer.request(ask())
            inner.cancel_scope.cancel()
        with pytest.raises(LinkClosed, match="left the link"):
            await stream.receive_some()
    assert isinstance(listener.reason, LinkClosed)


async def test_bytes_before_the_end_of_a_link_are_not_lost(autojump_clock: trio.testing.MockClock) -> None:
    async def serve(link: Link, stream: LinkStream) -> None:
        await stream.send_head(OK)
        await stream.send(b"so far")
        await trio.sleep_forever()

    async with linked(serve) as pair:
        stream = await pair.dialer.request(ask())
        await quiet()
        await trio.aclose_forcefully(pair.right)
        await quiet()
        assert await stream.receive_some() == b"so far"
        with pytest.raises(LinkClosed):
            await stream.receive_some()


async def test_goaway_lets_running_streams_finish(autojump_clock: trio.testing.MockClock) -> None:
    release = trio.Event()

    async def serve(link: Link, stream: LinkStream) -> None:
        await stream.send_head(OK)
        await release.wait()
        await stream.send(b"the end")
        await stream.finish()

    async with linked(serve) as pair:
        stream = await pair.dialer.request(ask())
        await stream.head()
        pair.listener.goaway()
        await quiet()
        assert pair.dialer.draining and pair.listener.draining
        with pytest.raises(LinkClosed):
            await pair.dialer.request(ask())
        with trio.move_on_after(1) as waiting:
            await pair.listener.drained()
        assert waiting.cancelled_caught
        release.set()
        await pair.listener.drained()
        assert await read_all(stream) == b"the end"


async def test_streams_beyond_the_limit_are_refused() -> None:
    async with linked(no_answer, section=replace(SECTION, streams=2)) as pair:
        for _ in range(2):
            await pair.dialer.request(ask())
        with pytest.raises(StreamReset) as refused:
            await pair.dialer.request(ask())
        assert refused.value.code == REFUSED_STREAM


async def test_headers_that_cannot_travel_are_the_askers_fault() -> None:
    async with linked() as pair:
        with pytest.raises(BadRequest):
            await pair.dialer.request([*ask(), ("a", "b\nc")])
        stream = await pair.dialer.request(ask(), b"fine")
        assert await read_all(stream) == b"fine"


async def test_writing_after_the_end_is_refused() -> None:
    async with linked() as pair:
        stream = await pair.dialer.request(ask(), b"all")
        with pytest.raises(StreamReset) as over:
            await stream.send(b"more")
        assert over.value.code == NO_ERROR
        assert await read_all(stream) == b"all"


async def test_a_request_before_the_link_runs_is_refused() -> None:
    left, right = trio.testing.memory_stream_pair()
    make_dialer, _ = await authenticate(left, right)
    with pytest.raises(LinkClosed, match="does not run"):
        await make_dialer(echo).request(ask())


async def test_garbage_on_the_wire_ends_the_link_as_a_violation(autojump_clock: trio.testing.MockClock) -> None:
    async with linked(no_answer) as pair:
        stream = await pair.dialer.request(ask())
        await quiet()
        await pair.right.send_all(b"\x00\x20" + b"garbage!" * 4)
        with pytest.raises(LinkClosed):
            await stream.head()
        assert isinstance(pair.dialer.reason, ProtocolViolation)

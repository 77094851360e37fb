"""One question and one answer on a link, and every way in which there is none."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from meshnode.errors import DecodeError, LinkError, PeerFailed
from meshnode.mesh import exchange
from meshnode.net import Link, LinkStream
from tests.net.kit import linked

PATH = "/meshnode/question"


async def ask(serve: object, body: bytes = b"why?", *, timeout_s: float = 10.0, limit: int = 100) -> bytes:
    outcome: bytes | Exception
    async with linked(serve) as pair:  # type: ignore[arg-type]
        try:
            outcome = await exchange.ask(pair.dialer, PATH, body, timeout_s=timeout_s, limit=limit)
        except (LinkError, PeerFailed, DecodeError) as error:
            outcome = error
        # Whatever came of it, the stream is not left behind.
        await trio.testing.wait_all_tasks_blocked()
        assert pair.dialer.streams == 0
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


async def test_a_question_is_answered(autojump_clock: MockClock) -> None:
    met: list[tuple[str, bytes]] = []

    async def serve(link: Link, stream: LinkStream) -> None:
        met.append(((await stream.head())[":path"], await exchange.read(stream)))
        await exchange.answer(stream, b"because")

    assert await ask(serve) == b"because"
    assert met == [(PATH, b"why?")]


@pytest.mark.parametrize(
    ("words", "told"), [("not now", "not now"), ("a\x1b[2Jb", "a[2Jb"), ("", "refused without a word")]
)
async def test_a_refusal_is_told_in_printable_words(autojump_clock: MockClock, words: str, told: str) -> None:
    async def serve(link: Link, stream: LinkStream) -> None:
        await exchange.refuse(stream, words)

    with pytest.raises(PeerFailed) as error:
        await ask(serve)
    assert told in str(error.value)


async def test_an_answer_beyond_the_limit_is_none(autojump_clock: MockClock) -> None:
    async def serve(link: Link, stream: LinkStream) -> None:
        await exchange.answer(stream, bytes(limit))

    limit = 100
    assert len(await ask(serve, limit=limit)) == limit
    limit = 101
    with pytest.raises(DecodeError, match="more than 100 bytes"):
        await ask(serve, limit=100)


async def test_who_says_nothing_is_waited_for_so_long(autojump_clock: MockClock) -> None:
    async def serve(link: Link, stream: LinkStream) -> None:
        await trio.sleep_forever()

    began = trio.current_time()
    with pytest.raises(LinkError, match="no answer within 7 s"):
        await ask(serve, timeout_s=7.0)
    assert trio.current_time() - began == pytest.approx(7.0)


async def test_a_stream_that_is_reset_is_the_links_error(autojump_clock: MockClock) -> None:
    async def serve(link: Link, stream: LinkStream) -> None:
        stream.reset()

    with pytest.raises(LinkError):
        await ask(serve)

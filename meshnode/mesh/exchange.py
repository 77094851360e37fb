"""One question and one answer on a link: joining, renewing, dialling back.

Small messages between nodes that are not jobs and not gossip. What they say is the caller's. Both sides are here.
"""

from __future__ import annotations

import trio

from meshnode.errors import DecodeError, LinkError, PeerFailed
from meshnode.net import Link, LinkStream

MAX_MESSAGE_BYTES = 8192
"""A grant with two certificates, sixteen addresses and what else a joiner must know needs less than half."""


def head_of(path: str) -> list[tuple[str, str]]:
    """The head of every stream that the mesh opens for itself."""
    return [(":method", "POST"), (":scheme", "mesh"), (":authority", "mesh"), (":path", path)]


async def ask(link: Link, path: str, body: bytes, *, timeout_s: float, limit: int = MAX_MESSAGE_BYTES) -> bytes:
    """The peer's answer to `body`.

    Raises PeerFailed with the peer's words when it refuses, LinkError when the link ends or nothing comes within
    `timeout_s`, DecodeError when more than `limit` bytes come.
    """
    with trio.move_on_after(timeout_s):
        stream = await link.request(head_of(path), body)
        try:
            head = await stream.head()
            data = await read(stream, limit)
        finally:
            stream.reset()
        if head.get(":status") == "200":
            return data
        words = data.decode(errors="replace")[:500]
        raise PeerFailed("".join(c for c in words if c.isprintable()) or "the peer refused without a word")
    raise LinkError(f"no answer within {timeout_s:g} s")


async def answer(stream: LinkStream, body: bytes) -> None:
    """Answer a question in full."""
    await _send(stream, "200", body)


async def refuse(stream: LinkStream, reason: str) -> None:
    """Answer that it shall not be, and why."""
    await _send(stream, "403", reason.encode())


async def read(stream: LinkStream, limit: int = MAX_MESSAGE_BYTES) -> bytes:
    """Everything the other side sends. Raises DecodeError when it is more than `limit`."""
    body = bytearray()
    while data := await stream.receive_some():
        body += data
        if len(body) > limit:
            raise DecodeError(f"a message of more than {limit} bytes")
    return bytes(body)


async def _send(stream: LinkStream, status: str, body: bytes) -> None:
    await stream.send_head([(":status", status)])
    await stream.send(body)
    await stream.finish()

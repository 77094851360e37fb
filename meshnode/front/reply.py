"""The way back to a client: what a lane must offer, which headers pass, and how whole bodies and errors are written.

Not for streams (streaming) nor for sockets (guard). Counterpart: model.answer, which is copied into a Reply.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, Protocol

import trio

from meshnode.dialects import http_error
from meshnode.errors import DeadlineExceeded, RequestError
from meshnode.model.answer import Answer
from meshnode.observe import log

logger = log.get("front")

Headers = Sequence[tuple[bytes, bytes]]

WHOLE_BYTES: Final = 256 * 1024
"""Collected of an unstreamed answer before its head goes out, so that a failure up to here still has a status."""

CLOSE_S: Final = 2.0
"""An answer's `aclose` has only to send a reset; whoever is left behind it may not hold the client's task longer."""

_KEPT_HERE: Final = frozenset(
    {
        # hop by hop (RFC 9110 §7.6.1), or made by this server for its own connection
        *("connection", "keep-alive", "proxy-authenticate", "proxy-connection", "te", "trailer", "transfer-encoding"),
        *("upgrade", "content-length", "date", "server", "alt-svc", "strict-transport-security"),
        # this node's own to say
        *("set-cookie", "x-request-id", "meshnode-error", "meshnode-phase"),
    }
)
NAMES: Final = 256
"""Header names of which is remembered whether they pass: engines use few, and with each answer the same."""

_CLEAN_VALUE: Final = re.compile(r"[\x20-\x7e\t\x80-\xff]*")
_CLEAN_NAME: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")


class Reply(Protocol):
    """Where a lane takes a response from: `start` once, then `send`, whose `more=False` ends it.

    A reply that is left without its end is cut by the lane, so that the client sees that it is not whole.
    """

    async def start(self, status: int, headers: Headers) -> None: ...

    async def send(self, data: bytes, more: bool = True) -> None: ...


def encode(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as a lane wants them."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def pass_headers(headers: Mapping[str, str], request_id: str) -> dict[str, str]:
    """What a client may see of an answer's headers; an engine's `access-control-allow-origin: *` least of all."""
    passed = {"x-request-id": request_id}
    for given, value in headers.items():
        name = _passed_name(given)
        if name and ((value.isascii() and value.isprintable()) or _CLEAN_VALUE.fullmatch(value)):
            passed[name] = value
    return passed


@lru_cache(NAMES)
def _passed_name(given: str) -> str:
    """How a header of this name is passed on; "" if it is not."""
    name = given.lower()
    if name in _KEPT_HERE or name.startswith("access-control-"):
        return ""
    return name if _CLEAN_NAME.fullmatch(name) else ""


async def send_whole(reply: Reply, status: int, headers: dict[str, str], body: bytes) -> None:
    """A response that is all there."""
    headers["content-length"] = str(len(body))
    await reply.start(status, encode(headers))
    await reply.send(body, more=False)


async def refuse(reply: Reply, error: RequestError, request_id: str) -> None:
    """The whole of a response that is an error."""
    status, headers, body = http_error(error)
    headers["x-request-id"] = request_id
    await send_whole(reply, status, headers, body)


async def copy_whole(answer: Answer, reply: Reply, request_id: str, deadline: float) -> None:
    """Copy an answer that is not a stream of events.

    Raises RequestError only while nothing was sent. An answer that breaks later leaves the reply without its end.
    """
    with trio.CancelScope(deadline=deadline) as patience:
        collected, ended = await collect(answer)
    if patience.cancelled_caught:
        raise DeadlineExceeded("The request's time ran out before the answer was whole")
    await copy_on(answer, reply, request_id, collected, ended)


async def copy_on(answer: Answer, reply: Reply, request_id: str, collected: bytes, ended: bool) -> None:
    """Send what was collected of an answer, and the rest of it as it comes. Raises nothing of the answer's own."""
    headers = pass_headers(answer.headers, request_id)
    if ended:
        await send_whole(reply, answer.status, headers, collected)
        return
    await reply.start(answer.status, encode(headers))
    await reply.send(collected)
    try:
        async for chunk in answer:
            await reply.send(chunk)
    except RequestError as error:
        logger.warning("answer broke after its head was sent", request=request_id, code=error.code)
        return
    await reply.send(b"", more=False)


async def collect(answer: Answer) -> tuple[bytes, bool]:
    """The answer's bytes up to WHOLE_BYTES, and whether that was all."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in answer:
        chunks.append(chunk)
        size += len(chunk)
        if size >= WHOLE_BYTES:
            return b"".join(chunks), False
    return chunks[0] if len(chunks) == 1 else b"".join(chunks), True


async def close(answer: Answer) -> None:
    """Close an answer also when its reader is being cancelled: that is what frees the engine's slot."""
    with trio.CancelScope(deadline=trio.current_time() + CLOSE_S, shield=True):
        await answer.aclose()

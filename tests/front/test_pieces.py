"""What the kernel makes of a client: requests in pieces of any size, and connections that end at any moment."""

from __future__ import annotations

import os
import socket

import psutil
import pytest
import trio
from trio.testing import MockClock

from tests.front.fakes import DONE, Mesh, Script, chat_body, delta, joined, served
from tests.kit.waiting import soon

REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n" % len(chat_body())
) + chat_body()


@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_a_request_in_small_segments_is_the_same_request(autojump_clock: MockClock, size: int) -> None:
    async with joined(Mesh().app()) as client:
        for at in range(0, len(REQUEST), size):
            await client.stream.send_all(REQUEST[at : at + size])
            await trio.testing.wait_all_tasks_blocked()
        assert (await client.read()).status == 200


def held(port: int) -> list[str]:
    """States of this process's connections at the server's end."""
    connections = psutil.Process(os.getpid()).net_connections("tcp")
    return [c.status for c in connections if c.raddr and c.laddr.port == port]


@pytest.mark.parametrize(
    "said",
    [
        b"",
        REQUEST[:20],
        REQUEST[:-5],
        REQUEST,
        b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
    ids=["nothing", "half a head", "half a body", "a stream", "a whole request", "no HTTP"],
)
@pytest.mark.parametrize("how", ["close", "half", "reset"])
async def test_no_connection_stays_when_its_client_is_gone(said: bytes, how: str) -> None:
    """CLOSE-WAIT: the client has ended, and the server never closes its descriptor."""
    endless = Mesh(lambda job: Script(*[delta("x"), 0.01] * 100_000, DONE))
    async with served(endless.app()) as door:
        clients = [await door.raw(said) for _ in range(8)]
        await soon(lambda: len(held(door.port)) == len(clients), "the server holds every connection")
        for client in clients:
            stream = client.stream
            assert isinstance(stream, trio.SocketStream)
            if how == "half":
                await stream.send_eof()
                continue
            if how == "reset":
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            await trio.aclose_forcefully(stream)
        await soon(lambda: not held(door.port), "the server holds none")

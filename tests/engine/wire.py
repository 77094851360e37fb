"""A server that says exactly the bytes it is told to, one script for each connection."""

from __future__ import annotations

import trio


class Scripted:
    """Each connection gets the next script: after each request it has read, the next of its byte strings; after the
    last of them the connection is closed (kept open with `linger`). `requests` is what was read."""

    def __init__(self, *scripts: list[bytes], linger: bool = False) -> None:
        self.requests: list[bytes] = []
        self.closed: list[trio.Event] = []
        self._scripts = list(scripts)
        self._linger = linger
        self.port = 0

    @property
    def connections(self) -> int:
        return len(self.closed)

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._serve, listeners)

    async def _serve(self, stream: trio.SocketStream) -> None:
        closed = trio.Event()
        script = self._scripts[len(self.closed)]
        self.closed.append(closed)
        async with stream:
            for said in script:
                self.requests.append(await stream.receive_some(65_536))
                await stream.send_all(said)
            if self._linger:
                await stream.receive_some(1)
        closed.set()


def answer(body: bytes, *lines: str) -> bytes:
    head = "".join(f"{line}\r\n" for line in ("HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *lines))
    return head.encode() + b"\r\n" + body

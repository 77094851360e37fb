"""One request from outside, over HTTP/1.1 as h11 speaks it: sent, read to its end, or left. Times count from the run's
start.

Decides nothing of what it means (judge.py). Counterparts: plan.Ask, answer.Answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import h11
import trio

from tests.real.faults.answer import Answer
from tests.real.faults.judge import Attempt, Outcome
from tests.real.faults.plan import Ask

GIVES_UP_S = 10.0
"""After its deadline a client waits so much longer, to see how late an answer would be."""


class Client:
    """A connection of its own for each request, as short-lived tools have it."""

    def __init__(self, ask: Ask, began: float) -> None:
        self.ask = ask
        self.answer = Answer(streamed=ask.stream)
        self.headers: dict[str, str] = {}
        self._began = began
        self._first_s: float | None = None

    async def run(self, port: int) -> Outcome:
        """Ask the node at `port`."""
        sent_s, how = self._now(), "ended"
        with trio.move_on_after(self.ask.deadline_s + GIVES_UP_S) as patience:
            with trio.move_on_after(self.ask.leaves_s or float("inf")) as stay:
                try:
                    await self._talk(port)
                except (OSError, trio.BrokenResourceError, h11.RemoteProtocolError):
                    how = "broken"
            if stay.cancelled_caught:
                how = "left"
        if patience.cancelled_caught:
            how = "gave up"
        return Outcome(
            self.ask, self.answer, sent_s, self._now(), self._first_s, how, self.headers.get("x-meshnode-path", ""),
            int(self.headers.get("x-meshnode-attempts", "0")),
        )  # fmt: skip

    def _now(self) -> float:
        return trio.current_time() - self._began

    async def _talk(self, port: int) -> None:
        connection = h11.Connection(h11.CLIENT)
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(self._request(connection, port))
            while True:
                match connection.next_event():
                    case h11.NEED_DATA:
                        connection.receive_data(await stream.receive_some(65_536))
                    case h11.Response(status_code=status, headers=headers):
                        self.headers = {name.decode(): value.decode() for name, value in headers}
                        self.answer.status = status
                        kind = self.headers.get("content-type", "")
                        self.answer.streamed = kind.startswith("text/event-stream")
                    case h11.Data(data=data):
                        self._read(bytes(data))
                    case h11.EndOfMessage():
                        self.answer.close()
                        return
                    case h11.ConnectionClosed():
                        raise OSError("closed without an answer")

    def _request(self, connection: h11.Connection, port: int) -> bytes:
        ask = self.ask
        body = json.dumps({
            "model": f"{ask.model}@n{ask.pin}" if ask.pin >= 0 else ask.model,
            "messages": [{"role": "user", "content": f"say who you are {ask.name}"}],
            "stream": ask.stream, "max_tokens": ask.tokens,
        }).encode()  # fmt: skip
        head = {
            "host": f"127.0.0.1:{port}", "content-type": "application/json", "content-length": str(len(body)),
            "x-meshnode-timeout": str(ask.deadline_s), "x-request-id": ask.name, "connection": "close",
        }  # fmt: skip
        start = h11.Request(method="POST", target="/v1/chat/completions", headers=list(head.items()))
        events = (start, h11.Data(data=body), h11.EndOfMessage())
        return b"".join(connection.send(event) or b"" for event in events)

    def _read(self, data: bytes) -> None:
        self.answer.feed(data)
        if self._first_s is None and self.answer.text:
            self._first_s = self._now()


def attempts(report: Mapping[str, Any], sent_s: float) -> tuple[Attempt, ...]:
    """What `/mesh/requests/<id>` says of who was asked, in the run's time."""
    return tuple(
        Attempt(one["name"], sent_s + one["began_s"], one["outcome"], one["why"] or "") for one in report["attempts"]
    )

"""One job of a peer in hand: its stream, the body that comes, how long it may take, and why it was stopped.

Not for what is done with it (inbound.py). One scope covers all of the work; its deadline moves at the head.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import trio

from meshnode.errors import DeadlineExceeded, FirstTokenTimedOut, RequestError, StreamSilent

if TYPE_CHECKING:
    from meshnode.dispatch.leases import Served
    from meshnode.dispatch.runs import Run
    from meshnode.dispatch.wire import Envelope
    from meshnode.net import LinkStream


class Body:
    """A request's body as it comes: pieces, joined once. A buffer that grows would leave holes of every size."""

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.size = 0

    def add(self, piece: bytes) -> None:
        """More of it came."""
        self._pieces.append(piece)
        self.size += len(piece)

    def whole(self) -> bytes:
        """All of it; the pieces are given up."""
        self._pieces = [b"".join(self._pieces)]
        return self._pieces[0]

    def drop(self) -> None:
        """Nobody needs it."""
        self._pieces = []
        self.size = 0


class Work:
    """`kind` is what is done with it, `scope` what all of it runs in; `headed`: the answer has begun. `whole_by` and
    `first_by` are on trio's clock. `watched` and `run` are set while it is watched over, and while it runs here."""

    __slots__ = (
        "_reason", "body", "came_at", "first_by", "headed", "kind", "run", "scope", "silence_s", "stream", "watched",
        "whole_by",
    )  # fmt: skip

    def __init__(self, stream: LinkStream) -> None:
        self.stream = stream
        self.body = Body()
        self.scope = trio.CancelScope()
        self.kind = "refuse"
        self.headed = False
        self.came_at = trio.current_time()
        self.first_by = self.whole_by = self.silence_s = inf
        self.watched: Served | None = None
        self.run: Run | None = None
        self._reason: RequestError | None = None

    def limit(self, envelope: Envelope, first_token_s: float, silence_s: float) -> None:
        """From now on time counts: what the asker said of it, else this node's own patience. An asker that forgets its
        job, or lies, holds a slot no longer."""
        self.whole_by = self.came_at + envelope.remaining_s
        first_s = envelope.first_token_s if envelope.first_token_s is not None else first_token_s
        self.silence_s = envelope.silence_s if envelope.silence_s is not None else silence_s
        self.first_by = min(self.whole_by, self.came_at + first_s)
        self.scope.deadline = self.first_by

    def begin(self) -> None:
        """The first byte is here: what is left is the time for the whole."""
        self.headed = True
        self.scope.deadline = self.whole_by

    def stop(self, error: RequestError) -> None:
        """Cancel it; the peer is told `error`. Only the first reason counts."""
        self._reason = self._reason or error
        self.scope.cancel()

    def fell_silent(self) -> None:
        """The answer began, and nothing more came of it for too long."""
        self.stop(
            StreamSilent(f"the engine said nothing for {self.silence_s:g} s in mid-stream, and the answer was cut")
        )

    def why(self) -> RequestError:
        """Why it was cancelled."""
        if self._reason is not None:
            return self._reason
        if self.headed:
            return DeadlineExceeded("the request's time ran out before the answer was whole")
        if self.first_by < self.whole_by:
            return FirstTokenTimedOut(
                f"the server had no first token after {self.first_by - self.came_at:g} s, the queue included; ask a "
                "smaller model, or raise x-meshnode-first-token-timeout"
            )
        return DeadlineExceeded("no first byte within the time the client gave", phase="first_token")

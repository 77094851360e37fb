"""Jobs that run here for peers, by attempt: a newer one stops the older, the same one joins and is told all of it.

What a run has said is kept for those who join, as long as it is short; each of them reads at its own pace. Every
decision is the machine's (slots.fence). Counterpart: inbound.py, whose streams run and join.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import trio

from meshnode.dispatch.wire import Envelope
from meshnode.errors import BadRequest, Overloaded, PeerFailed, RequestError, Superseded
from meshnode.slots.fence import Arrived, Fence, Join, Left, Refuse, Stop

KEPT_BYTES = 64 * 1024
"""Of what one run has said. Who comes twice comes within moments; a slot each, so that 256 slots keep 16 MiB."""

MAX_JOINED = 4
"""At one run: a job has one origin, which has a few ways to its server."""


class Gone(PeerFailed):
    """What was joined was cut before it said anything: whoever joined may run in its place."""


@dataclass(eq=False, slots=True)
class Run:
    """One attempt that runs. `stop` cancels it with an error; `body` is what was asked."""

    ticket: int
    envelope: Envelope
    body: bytes
    stop: Callable[[RequestError], None]
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    trailers: Mapping[str, str] = field(default_factory=dict)
    error: RequestError | None = None
    whole: bool = False
    over: bool = False
    chunks: list[bytes] = field(default_factory=list)
    first: int = 0
    joined: set[Joined] = field(default_factory=set)
    changed: trio.Event = field(default_factory=trio.Event)
    _size: int = 0
    _keeps: bool = True

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """The head of its answer is known."""
        self.status, self.headers = status, headers
        self._tell()

    def add(self, data: bytes) -> None:
        """It said more."""
        if not self._keeps:
            return
        self.chunks.append(data)
        self._size += len(data)
        if self._size > KEPT_BYTES:
            self._shed()
        if self.joined:
            self._tell()

    def end(self, error: RequestError | None = None, trailers: Mapping[str, str] | None = None) -> None:
        """It told its answer to the end, or `error`."""
        self.error, self.trailers, self.whole = error, trailers or {}, True

    @property
    def open(self) -> bool:
        """Whether all that it said is still here."""
        return self.first == 0 and self._keeps

    def close(self) -> None:
        """Nothing more comes."""
        self.over = True
        self._tell()

    def _shed(self) -> None:
        """Keep only what somebody has yet to read; who is too far behind is cut."""
        for _ in range(2):
            read = min((one.at for one in self.joined), default=self.first + len(self.chunks))
            gone, self.chunks = self.chunks[: read - self.first], self.chunks[read - self.first :]
            self._size -= sum(map(len, gone))
            self.first = read
            if self._size <= KEPT_BYTES:
                break
            for one in [one for one in self.joined if one.at == self.first]:
                one.cut()
        self._keeps = bool(self.joined)

    def _tell(self) -> None:
        changed, self.changed = self.changed, trio.Event()
        changed.set()


class Joined:
    """An Answer: another run's, from its start."""

    def __init__(self, run: Run) -> None:
        self.at = 0
        self._run = run
        self._cut = False
        run.joined.add(self)

    async def begun(self) -> Joined:
        """Once its head and first bytes are here. Raises Gone, and what the run ended with."""
        run = self._run
        try:
            while not (run.chunks and run.status) and not run.over:
                await run.changed.wait()
            if not run.status or not run.chunks:
                if run.error is not None:
                    raise _anew(run.error)
                if not run.whole:
                    raise Gone("the run that this one had joined was cut")
        except BaseException:
            run.joined.discard(self)
            raise
        return self

    @property
    def status(self) -> int:
        return self._run.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._run.headers

    @property
    def trailers(self) -> Mapping[str, str]:
        return self._run.trailers

    def cut(self) -> None:
        """What comes next is lost."""
        self._cut = True
        self._run.joined.discard(self)

    def __aiter__(self) -> Joined:
        return self

    async def __anext__(self) -> bytes:
        run = self._run
        await trio.lowlevel.checkpoint()
        while not self._cut:
            if self.at < run.first + len(run.chunks):
                data = run.chunks[self.at - run.first]
                self.at += 1
                return data
            if run.over:
                if run.error is not None:
                    raise _anew(run.error)
                if run.whole:
                    raise StopAsyncIteration
                break
            await run.changed.wait()
        raise PeerFailed("the run that this answer came from was cut, or went too far ahead")

    async def aclose(self) -> None:
        self._run.joined.discard(self)
        await trio.lowlevel.checkpoint()


class Runs:
    """Every job that runs here for a peer."""

    def __init__(self, fence: Fence) -> None:
        self._fence = fence
        self._by_ticket: dict[int, Run] = {}
        self._tickets = 0

    def begin(self, envelope: Envelope, body: bytes, stop: Callable[[RequestError], None]) -> Run | Joined:
        """A run of its own for this attempt, or the answer of the same one. Raises BadRequest, Overloaded."""
        self._tickets += 1
        run = Run(self._tickets, envelope, body, stop)
        event = Arrived(run.ticket, (bytes(envelope.origin), envelope.id), envelope.attempt)
        for command in self._fence.handle(event, trio.current_time()):
            match command:
                case Stop(ticket):
                    self._by_ticket[ticket].stop(Superseded("a newer attempt of this job has come: this one is over"))
                case Join(ticket):
                    return self._join(self._by_ticket[ticket], run)
                case Refuse(reason):
                    raise BadRequest(reason)
        self._by_ticket[run.ticket] = run
        return run

    def end(self, run: Run) -> None:
        """The run is over, however it ended."""
        if self._by_ticket.pop(run.ticket, None) is not None:
            self._fence.handle(Left(run.ticket, run.whole), trio.current_time())
            run.close()

    def __len__(self) -> int:
        return len(self._by_ticket)

    def _join(self, run: Run, asked: Run) -> Joined:
        if _same(run.envelope) != _same(asked.envelope) or run.body != asked.body:
            raise BadRequest("this attempt of the job runs here with another request")
        if not run.open:
            raise BadRequest("this attempt of the job runs here and has said too much to be told again")
        if len(run.joined) >= MAX_JOINED:
            raise Overloaded("this attempt of the job is being told to as many as it may be", retry_after_s=1.0)
        return Joined(run)


def _same(envelope: Envelope) -> tuple[object, ...]:
    """What must be equal for two streams to ask for the same."""
    return envelope.route, envelope.target, envelope.label, envelope.owner


def _anew(error: RequestError) -> RequestError:
    """An exception of its own for each who is told."""
    return type(error)(error.message, param=error.param)

"""Runs a handshake machine over a stream, within its time, and has the result judged. Either side, any pipe.

Not for the bytes of the handshake (noise) nor for who is welcome (the `check` handed in). Counterpart: the other
function of this module, at the other end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import trio

from meshnode.errors import HandshakeFailed, IdentityError, LinkError
from meshnode.model.ids import NodeId
from meshnode.noise import Established, Initiator, Responder, Transport

READ_BYTES = 4096

Check = Callable[[bytes, bytes], tuple[NodeId, Any]]
"""Judges (payload, remote static key) of a handshake: the node's id and what makes it a member (None: nothing does).
Raises IdentityError."""


@dataclass(frozen=True, slots=True)
class Authenticated:
    """A pipe whose other end is known: what a Link is made of. `surplus`: bytes of the peer after its handshake.

    `hint` is the invite's, where the other end came with one; it is no member then.
    """

    stream: trio.abc.Stream = field(repr=False)
    transport: Transport = field(repr=False)
    peer: NodeId
    membership: Any = field(repr=False)
    initiator: bool
    hint: bytes | None = None
    surplus: bytes = field(default=b"", repr=False)


async def initiate(
    stream: trio.abc.Stream,
    machine: Initiator,
    check: Check,
    *,
    timeout_s: float,
    expect: NodeId | None = None,
) -> Authenticated:
    """The dialer's side; returns once the responder has shown by its first record that it accepts.

    The responder is judged before it learns who asks. Raises HandshakeFailed; the stream is closed then.
    """
    async with _closing_on_failure(stream):
        with _within(timeout_s):
            established = await _exchange(stream, machine)
            peer, membership = _judge(established, check)
            if expect is not None and peer != expect:
                raise HandshakeFailed(f"{peer.short} answered where {expect.short} was expected")
            await stream.send_all(machine.bytes_to_send())
            surplus = established.surplus or await _first_record(stream)
        return Authenticated(stream, established.transport, peer, membership, True, surplus=surplus)


async def respond(
    stream: trio.abc.Stream,
    machine: Responder,
    check: Check,
    *,
    check_join: Check | None = None,
    timeout_s: float,
) -> Authenticated:
    """The listener's side. `check_join` judges those who come with an invite; without it they are refused.

    Raises HandshakeFailed; the stream is closed then, and whoever lacks the secret has read nothing from it.
    """
    async with _closing_on_failure(stream):
        with _within(timeout_s):
            established = await _exchange(stream, machine)
        hint = established.preface.hint
        if hint is not None and check_join is None:
            raise HandshakeFailed("nobody joins here")
        peer, membership = _judge(established, check if hint is None or check_join is None else check_join)
        return Authenticated(
            stream, established.transport, peer, membership, False, hint=hint, surplus=established.surplus
        )


async def _exchange(stream: trio.abc.Stream, machine: Initiator | Responder) -> Established:
    """Carry bytes until the machine has a result. Its last bytes, if any, are still to be sent."""
    while True:
        out = machine.bytes_to_send()
        if out:
            await stream.send_all(out)
        data = await stream.receive_some(READ_BYTES)
        if not data:
            raise HandshakeFailed("the other end closed the connection during the handshake")
        established = machine.receive(bytes(data))
        if established is not None:
            return established


async def _first_record(stream: trio.abc.Stream) -> bytes:
    data = await stream.receive_some(READ_BYTES)
    if not data:
        raise HandshakeFailed("the other end refused this node's credential")
    return bytes(data)


def _judge(established: Established, check: Check) -> tuple[NodeId, Any]:
    try:
        return check(established.remote_payload, established.remote_static)
    except IdentityError as error:
        raise HandshakeFailed(f"the other end's credential is refused: {error}") from error


class _within:
    """`trio.fail_after`, in this room's words."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._scope = trio.CancelScope()

    def __enter__(self) -> None:
        self._scope.deadline = trio.current_time() + self._seconds
        self._scope.__enter__()

    def __exit__(self, *exc: Any) -> bool:
        swallowed = self._scope.__exit__(*exc)
        if self._scope.cancelled_caught:
            raise HandshakeFailed(f"no handshake within {self._seconds:g} s")
        return bool(swallowed)


class _closing_on_failure:
    """Closes the stream when its block fails, and maps what the pipe itself raises."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if error is None:
            return
        # Forcefully: a stranger gets no farewell, and nothing waits for one.
        await trio.aclose_forcefully(self._stream)
        if isinstance(error, trio.BrokenResourceError | trio.ClosedResourceError):
            raise HandshakeFailed("the connection broke during the handshake") from error
        if isinstance(error, LinkError) and not isinstance(error, HandshakeFailed):
            raise HandshakeFailed(str(error)) from error

"""Runs a handshake machine over a stream, within its time, and has the result judged. Either side, any pipe.

Not for the bytes of the handshake (noise) nor for who is welcome (the `check` handed in). Counterpart: the other
function of this module, at the other end.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import trio

from meshnode.errors import HandshakeFailed, IdentityError, LinkError, LinkRefused
from meshnode.model.ids import NodeId
from meshnode.noise import Established, Initiator, Responder, Transport
from meshnode.noise.channel import REFUSAL, read_refusal, refusal

READ_BYTES = 4096

FAREWELL_S = 1.0
"""Time to say why somebody is refused: a few hundred bytes on a connection that carried the handshake."""

Check = Callable[[bytes, bytes], tuple[NodeId, Any]]
"""Judges (payload, remote static key) of a handshake: the node's id and what makes it a member (None: nothing does).
Raises IdentityError, or HandshakeFailed where it is not the credential that is in the way."""


@dataclass(frozen=True, slots=True)
class Authenticated:
    """A pipe whose other end is known: what a Link is made of. `surplus`: bytes of the peer after its handshake.

    `hint` is the invite's, where the other end came with one; it is no member then. `address` is what was dialled;
    `remote_host` is the IP address that an accepted connection came from.
    """

    stream: trio.abc.Stream = field(repr=False)
    transport: Transport = field(repr=False)
    peer: NodeId
    membership: Any = field(repr=False)
    initiator: bool
    hint: bytes | None = None
    surplus: bytes = field(default=b"", repr=False)
    address: str | None = None
    remote_host: str = ""


async def initiate(
    stream: trio.abc.Stream,
    machine: Initiator,
    check: Check,
    *,
    timeout_s: float,
    expect: NodeId | None = None,
) -> Authenticated:
    """The dialer's side; returns once the responder has shown by its first record that it accepts.

    The responder is judged before it learns who asks. Raises HandshakeFailed, with the responder's words where it
    refused this node; the stream is closed then.
    """
    async with _closing_on_failure(stream):
        with _within(timeout_s):
            established = await _exchange(stream, machine)
            peer, membership = _judge(established, check)
            if expect is not None and peer != expect:
                raise HandshakeFailed(f"{peer.short} answered where {expect.short} was expected")
            await stream.send_all(machine.bytes_to_send())
            surplus = await _accepted(stream, established, peer)
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

    Raises HandshakeFailed; the stream is closed then. Whoever knows the secret has been told why in one sealed record,
    and whoever lacks it has read nothing.
    """
    async with _closing_on_failure(stream):
        with _within(timeout_s):
            established = await _exchange(stream, machine)
        hint = established.preface.hint
        try:
            if hint is not None and check_join is None:
                raise HandshakeFailed("nobody joins here")
            peer, membership = _judge(established, check if hint is None or check_join is None else check_join)
        except HandshakeFailed as error:
            await _refuse(stream, established.transport, error)
            raise
        return Authenticated(
            stream, established.transport, peer, membership, False, hint=hint, surplus=established.surplus
        )


async def _exchange(stream: trio.abc.Stream, machine: Initiator | Responder) -> Established:
    """Carry bytes until the machine has a result. Its last bytes, if any, are still to be sent."""
    when = "before it said anything"
    while True:
        out = machine.bytes_to_send()
        if out:
            await stream.send_all(out)
        data = await stream.receive_some(READ_BYTES)
        if not data:
            raise HandshakeFailed(f"the other end closed the connection {when}")
        when = "in the middle of the handshake"
        try:
            established = machine.receive(bytes(data))
        except IdentityError as error:
            raise HandshakeFailed(f"this node cannot show who it is: {error}") from error
        if established is not None:
            return established


async def _accepted(stream: trio.abc.Stream, established: Established, peer: NodeId) -> bytes:
    """The responder's first record, and what came with it, once it shows that this node is not refused."""
    data = established.surplus
    while (record := established.transport.peek(data)) is None:
        more = await stream.receive_some(READ_BYTES)
        if not more:
            raise HandshakeFailed("the other end refused this node's credential")
        data += bytes(more)
    if record[0] == REFUSAL:
        raise LinkRefused(f"{peer.short} refused this node: {read_refusal(record)}")
    return data


async def _refuse(stream: trio.abc.Stream, transport: Transport, error: HandshakeFailed) -> None:
    # The error's cause says what is wrong with the credential; its own words are about "the other end".
    with trio.move_on_after(FAREWELL_S), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await stream.send_all(transport.seal(refusal(str(error.__cause__ or error))))


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

"""Two nodes that share a secret, and links between them over any pipe."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio
import trio.testing

from meshnode.config.mesh import MeshSection
from meshnode.errors import CertificateRefused
from meshnode.model.ids import NodeId
from meshnode.net import Authenticated, Link, LinkStream, Rekeying, initiate, respond
from meshnode.net.handshake import Check
from meshnode.noise import Initiator, Preface, Responder, Secrets, StaticKey, prologue

SECTION = MeshSection()
ALICE, BOB = NodeId(b"a" * 32), NodeId(b"b" * 32)
SECRETS = Secrets.derive(b"s" * 32, b"network")
INVITE = Secrets.derive(b"i" * 16, b"invite")
HINT = b"12345678"
MESH = b"mesh"
OK = [(":status", "200")]

Handler = Callable[[Link, LinkStream], Awaitable[None]]


def ask(path: str = "/echo") -> list[tuple[str, str]]:
    return [(":method", "POST"), (":scheme", "mesh"), (":authority", "mesh"), (":path", path)]


def initiator(
    me: NodeId = ALICE, secrets: Secrets = SECRETS, hint: bytes | None = None, mixed: bytes = b""
) -> Initiator:
    return Initiator(Preface(hint), secrets, StaticKey.generate(), bytes(me), prologue(MESH) + mixed)


def responder(me: NodeId = BOB, mixed: bytes = b"") -> Responder:
    def select(preface: Preface) -> Secrets:
        return SECRETS if preface.hint is None else INVITE

    return Responder(select, StaticKey.generate(), lambda _: bytes(me), lambda _: prologue(MESH) + mixed)


def rekeying(me: NodeId, judge: Check | None = None) -> Rekeying:
    """What a member hands to its links."""
    return Rekeying(
        initiator=lambda mixed: initiator(me, mixed=mixed),
        responder=lambda mixed: responder(me, mixed=mixed),
        check=judge or check,
    )


def check(payload: bytes, remote_static: bytes) -> tuple[NodeId, str]:
    """The payload is the id, in place of certificates."""
    if payload == b"x" * 32:
        raise CertificateRefused("a revoked node")
    return NodeId(payload), "member"


def check_join(payload: bytes, remote_static: bytes) -> tuple[NodeId, None]:
    return NodeId(payload), None


async def no_answer(link: Link, stream: LinkStream) -> None:
    await trio.sleep_forever()


async def echo(link: Link, stream: LinkStream) -> None:
    """Answers with what it gets, and says so in a trailer."""
    await stream.send_head(OK)
    size = 0
    while data := await stream.receive_some():
        size += len(data)
        await stream.send(data)
    await stream.finish([("x-size", str(size))])


async def read_all(stream: LinkStream) -> bytes:
    body = b""
    while data := await stream.receive_some():
        body += data
    return body


async def authenticate(
    left: trio.abc.Stream,
    right: trio.abc.Stream,
    section: MeshSection = SECTION,
    dialer_rekeys: Rekeying | None = None,
    listener_rekeys: Rekeying | None = None,
) -> tuple[Callable[[Handler], Link], Callable[[Handler], Link]]:
    """Handshake over a pipe: a maker of the dialer's link and one of the listener's."""
    first, second = initiator(), responder()
    established = []
    async with trio.open_nursery() as nursery:

        async def dial() -> None:
            await left.send_all(first.bytes_to_send())
            result = first.receive(bytes(await left.receive_some(4096)))
            assert result is not None
            await left.send_all(first.bytes_to_send())
            established.append(Authenticated(left, result.transport, BOB, "member", True, surplus=result.surplus))

        async def listen() -> None:
            found = await respond(right, second, check, timeout_s=5)
            established.append(found)

        nursery.start_soon(dial)
        nursery.start_soon(listen)
    dialer, listener = sorted(established, key=lambda found: not found.initiator)
    return (
        lambda serve: Link(dialer, serve, section, dialer_rekeys),
        lambda serve: Link(listener, serve, section, listener_rekeys),
    )


@dataclass
class Linked:
    """Both links, running, and the raw pipe of each."""

    dialer: Link
    listener: Link
    left: trio.abc.Stream
    right: trio.abc.Stream
    nursery: trio.Nursery


@asynccontextmanager
async def linked(
    serve: Handler = echo,
    serve_back: Handler = echo,
    section: MeshSection = SECTION,
    tcp: bool = False,
    rekeys: tuple[Rekeying | None, Rekeying | None] = (None, None),
) -> AsyncIterator[Linked]:
    """A running pair: `serve` answers at the listener, `serve_back` at the dialer; `rekeys` are the dialer's and the
    listener's."""
    left, right = await tcp_pair() if tcp else trio.testing.memory_stream_pair()
    make_dialer, make_listener = await authenticate(left, right, section, *rekeys)
    dialer, listener = make_dialer(serve_back), make_listener(serve)
    async with trio.open_nursery() as nursery:
        await nursery.start(dialer.run)
        await nursery.start(listener.run)
        yield Linked(dialer, listener, left, right, nursery)
        nursery.cancel_scope.cancel()


async def tcp_pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    left = await trio.testing.open_stream_to_socket_listener(listeners[0])
    right = await listeners[0].accept()
    await listeners[0].aclose()
    return left, right


__all__ = ["initiate", "respond"]

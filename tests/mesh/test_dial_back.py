"""Peers dial back what the asker may have them dial, prove who answers, and never make a link of it."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from meshnode.errors import HandshakeFailed, PeerFailed
from meshnode.mesh.dial_back import EVERY_S, PATH, Answer, DialBack, DialledBack, Question, Trial, Way
from meshnode.mesh.exchange import ask
from meshnode.model import codec
from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId
from meshnode.model.view import View
from meshnode.net import Link, LinkStream, respond
from tests.net import kit

MESH = bytes(32)
CAROL = NodeId(b"c" * 32)
HERE, THERE = "192.168.1.5:6375", "10.0.0.5:6375"
Listen = Callable[[trio.abc.Stream], Awaitable[None]]


@dataclass
class Net:
    """What listens where, and who was dialled. Handshakes that a listener saw through to their end are `linked`."""

    nursery: trio.Nursery
    listeners: dict[str, Listen] = field(default_factory=dict)
    dialled: list[str] = field(default_factory=list)
    linked: list[NodeId] = field(default_factory=list)

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        address = f"{host}:{port}"
        self.dialled.append(address)
        if address not in self.listeners:
            raise OSError(errno.ECONNREFUSED, "refused")
        near, far = memory_stream_pair()
        self.nursery.start_soon(self.listeners[address], far)
        return near

    def node(self, me: NodeId) -> Listen:
        async def listen(stream: trio.abc.Stream) -> None:
            try:
                found = await respond(stream, kit.responder(me), kit.check, timeout_s=5)
            except HandshakeFailed:
                return
            self.linked.append(found.peer)

        return listen


async def silent(stream: trio.abc.Stream) -> None:
    await trio.sleep_forever()


async def web_server(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await stream.aclose()


def view(me: NodeId, *adverts: Advert) -> View:
    return View(me, {advert.node: advert for advert in adverts})


def advert(node: NodeId, *addresses: str, host: bytes = b"", name: str = "") -> Advert:
    return Advert(bytes(node), MESH, 1, 1, 60, name=name, addresses=addresses, host=host)


@dataclass
class Pair:
    """Alice asks, over her link, and Bob dials back."""

    net: Net
    alice: DialBack
    bob: DialBack
    link: Link


@asynccontextmanager
async def pair(
    *addresses: str, named: tuple[str, ...] | None = None, alices_host: bytes = b"a", skew_s: float = 0.0,
    from_host: str = "",
) -> AsyncIterator[Pair]:  # fmt: skip
    """Alice can be dialled at `addresses`, and her advert says `named`."""
    told = addresses if named is None else named
    own = advert(kit.ALICE, *told, host=alices_host, name="alice")
    other = advert(kit.BOB, host=b"b", name="bob")
    async with trio.open_nursery() as nursery:
        net = Net(nursery)
        way = Way(lambda: kit.initiator(kit.BOB), kit.check, net.connect)
        alice = DialBack(lambda: view(kit.ALICE, own, other), lambda: addresses, way, lambda: 1000.0)
        bob = DialBack(lambda: view(kit.BOB, own, other), lambda: (), way, lambda: 1000.0 + skew_s)
        async with kit.linked(serve=bob.serve) as linked:
            linked.listener.remote_host = from_host
            yield Pair(net, alice, bob, linked.dialer)
        nursery.cancel_scope.cancel()


async def test_an_address_where_the_asker_answers_is_reached_and_no_link_comes_of_it() -> None:
    async with pair(HERE) as both:
        both.net.listeners[HERE] = both.net.node(kit.ALICE)
        assert await both.alice.ask_all([both.link]) == [DialledBack("bob", HERE, True, "", pytest.approx(0, abs=1))]
    assert both.net.linked == []


@pytest.mark.parametrize(
    ("listener", "words"),
    [
        (None, "Connection refused"),
        (web_server, "no node of this mesh"),
        (CAROL, "another node answers"),
    ],
)
async def test_what_is_there_instead_is_said_of_the_askers_own_host(listener: Any, words: str) -> None:
    """Of other hosts, which any advert may name, it is not: nobody looks for open doors through a peer."""
    for from_host, told in ((HERE.rpartition(":")[0], words), ("192.168.1.77", "not reached"), ("", "not reached")):
        async with pair(HERE, from_host=from_host) as both:
            if listener is not None:
                both.net.listeners[HERE] = both.net.node(listener) if isinstance(listener, NodeId) else listener
            (found,) = await both.alice.ask_all([both.link])
        assert not found.ok
        assert told in found.detail and (told == words or found.detail == told)


async def test_a_wall_that_swallows_everything_is_given_up(autojump_clock: MockClock) -> None:
    async with pair(HERE, THERE, from_host=HERE.rpartition(":")[0]) as both:
        both.net.listeners = {HERE: silent, THERE: both.net.node(kit.ALICE)}
        found = await both.alice.ask_all([both.link])
    assert [(one.address, one.ok) for one in found] == [(THERE, True), (HERE, False)]
    assert "no answer within 5 s" in found[1].detail


@pytest.mark.parametrize(("skew_s", "seen_s"), [(42.0, 42.0), (-400.0, -400.0)])
async def test_the_peers_clock_is_compared(skew_s: float, seen_s: float) -> None:
    async with pair(HERE, skew_s=skew_s) as both:
        (found,) = await both.alice.ask_all([both.link])
    assert found.clock_skew_s == pytest.approx(seen_s, abs=1)


async def test_a_node_that_only_dials_out_still_compares_clocks() -> None:
    async with pair(skew_s=7.0) as both:
        (found,) = await both.alice.ask_all([both.link])
    assert (found.address, found.ok) == ("", True)
    assert found.clock_skew_s == pytest.approx(7.0, abs=1)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:22", "[::1]:22", "[::ffff:127.0.0.1]:22", "localhost:22", "0.0.0.0:22", "169.254.169.254:80",
        "[fe80::1]:22", "224.0.0.251:5353",
    ],
)  # fmt: skip
async def test_this_machine_and_nobodys_addresses_are_not_dialled_for_a_peer(address: str) -> None:
    async with pair(address) as both:
        (found,) = await both.alice.ask_all([both.link])
    assert not found.ok and both.net.dialled == []


async def test_nodes_of_one_machine_dial_each_others_loopback() -> None:
    async with pair("127.0.0.1:6375", alices_host=b"b") as both:
        both.net.listeners["127.0.0.1:6375"] = both.net.node(kit.ALICE)
        (found,) = await both.alice.ask_all([both.link])
    assert found.ok


async def test_only_what_the_signed_advert_names_is_dialled() -> None:
    async with pair(HERE, "10.0.0.1:22", named=(HERE,)) as both:
        found = await both.alice.ask_all([both.link])
    assert both.net.dialled == [HERE]
    assert "not one that the peer may try" in next(one for one in found if one.address != HERE).detail


async def test_the_host_that_the_asker_comes_from_is_dialled_at_its_own_port_only() -> None:
    came = "203.0.113.7"
    async with pair(f"{came}:6375", f"{came}:22", named=(HERE,), from_host=came) as both:
        await both.alice.ask_all([both.link])
    assert both.net.dialled == [f"{came}:6375"]


async def test_what_a_name_stands_for_is_not_told() -> None:
    async with pair("router.lan:6375") as both:
        both.net.listeners["router.lan:6375"] = web_server
        (found,) = await both.alice.ask_all([both.link])
    assert found.detail == "not reached"


async def test_a_peer_is_not_asked_again_at_once(autojump_clock: MockClock) -> None:
    async with pair(HERE) as both:
        first = await both.alice.ask_all([both.link])
        second = await both.alice.ask_all([both.link])
        await trio.sleep(EVERY_S)
        third = await both.alice.ask_all([both.link])
    assert [one.address for one in first + third] == [HERE, HERE]
    assert (second[0].address, second[0].ok, second[0].clock_skew_s) == ("", False, None)
    assert "less than 10 s ago" in second[0].detail


async def test_two_askers_are_never_served_at_once(autojump_clock: MockClock) -> None:
    async with pair(HERE) as both:
        both.net.listeners[HERE] = silent
        async with trio.open_nursery() as nursery:
            nursery.start_soon(both.alice.ask_all, [both.link])
            await trio.sleep(1)
            async with kit.linked(serve=both.bob.serve) as other:
                other.listener.peer = CAROL
                with pytest.raises(PeerFailed, match="dialling another node back"):
                    await ask(other.dialer, PATH, codec.encode(Question((HERE,))), timeout_s=30)


@pytest.mark.parametrize("body", [b"", b"nonsense", codec.encode([[HERE] * 9]), b"x" * 3000])
async def test_a_question_that_cannot_be_read_is_refused(body: bytes) -> None:
    async with pair(HERE) as both:
        with pytest.raises(PeerFailed, match="cannot be read"):
            await ask(both.link, PATH, body, timeout_s=30)
    assert both.net.dialled == []


async def test_a_question_that_never_ends_keeps_nobody_else_waiting(autojump_clock: MockClock) -> None:
    async with pair(HERE) as both:
        stream = await both.link.request(kit.ask(PATH), end=False)
        assert (await stream.head())[":status"] == "403"


async def test_each_address_is_tried_once() -> None:
    async with pair(HERE) as both:
        said = await ask(both.link, PATH, codec.encode(Question((HERE, HERE))), timeout_s=30)
    assert both.net.dialled == [HERE]
    assert [trial.address for trial in codec.decode(said, Answer).trials] == [HERE]


@pytest.mark.parametrize("reply", [b"nonsense", codec.encode(Answer((), 0))[:-1]])
async def test_a_peer_that_answers_nonsense_is_in_the_list_with_the_reason(reply: bytes) -> None:
    async def serve(link: Link, stream: LinkStream) -> None:
        await stream.send_head(kit.OK)
        await stream.send(reply)
        await stream.finish()

    async with pair(HERE) as both, kit.linked(serve=serve) as other:
        (found,) = await both.alice.ask_all([other.dialer])
    assert (found.address, found.ok) == ("", False)
    assert "did not answer" in found.detail


async def test_a_peer_cannot_speak_of_addresses_that_it_was_not_asked_about() -> None:
    async def serve(link: Link, stream: LinkStream) -> None:
        await stream.send_head(kit.OK)
        await stream.send(codec.encode(Answer((Trial(THERE, True), Trial("\x1b[31m", False)), 1_000_000)))
        await stream.finish()

    async with pair(HERE) as both, kit.linked(serve=serve) as other:
        (found,) = await both.alice.ask_all([other.dialer])
    assert found.address == ""

"""Dialling over pipes that the test hands out, in virtual time."""

from __future__ import annotations

import errno
import socket

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from meshnode.errors import HandshakeFailed
from meshnode.net import Link, dial, respond
from meshnode.net.dial import MAX_ADDRESSES, STAGGER_S, race_order, split_address
from tests.net.kit import ALICE, BOB, SECTION, check, echo, initiator, responder


class Network:
    """Hosts by name: how long a connection takes, and who answers (None: nobody)."""

    def __init__(self, nursery: trio.Nursery, hosts: dict[str, tuple[float, object]]) -> None:
        self.nursery = nursery
        self.hosts = hosts
        self.connected: list[str] = []
        self.began: dict[str, float] = {}

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        delay_s, node = self.hosts[host]
        self.began[host] = trio.current_time()
        await trio.sleep(delay_s)
        if node is None:
            raise ConnectionRefusedError("nobody listens")
        self.connected.append(host)
        left, right = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self.answer, right, node)
        return left

    async def answer(self, stream: trio.abc.Stream, node: object) -> None:
        try:
            found = await respond(stream, responder(node), check, timeout_s=5)  # type: ignore[arg-type]
        except HandshakeFailed:
            return
        await Link(found, echo, SECTION).run()


async def test_the_first_address_that_authenticates_wins(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        hosts = {
            "gone": (60.0, None),
            "refuses": (0.0, None),
            "other": (0.0, ALICE),
            "slow": (1.5, BOB),
            "fast": (0.3, BOB),
        }
        network = Network(nursery, hosts)
        addresses = [f"{host}:1" for host in hosts]
        found = await dial(addresses, initiator, check, SECTION, expect=BOB, connect=network.connect)
        assert found.peer == BOB
        assert found.initiator and found.address == "fast:1"
        assert network.connected == ["other", "fast"]
        nursery.cancel_scope.cancel()


async def test_each_address_says_why_it_failed(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        network = Network(nursery, {"gone": (60.0, None), "refuses": (0.0, None), "other": (0.0, ALICE)})
        addresses = ["gone:1", "refuses:1", "other:1", "nonsense"]
        begin = trio.current_time()
        with pytest.raises(HandshakeFailed) as fault:
            await dial(addresses, initiator, check, SECTION, expect=BOB, connect=network.connect)
        assert trio.current_time() - begin == SECTION.dial_timeout_s
        for words in ("gone:1: no connection within 2 s", "refuses:1: no connection", "other:1: ", "nonsense: not an"):
            assert words in str(fault.value)
        assert str(fault.value).index("gone") < str(fault.value).index("nonsense")
        nursery.cancel_scope.cancel()


async def test_the_next_address_has_its_turn_when_one_fails_or_after_a_head_start(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        network = Network(
            nursery, {"hangs": (60.0, None), "refuses": (0.0, None), "slow": (0.5, BOB), "last": (9, BOB)}
        )
        found = await dial(
            [f"{host}:1" for host in network.hosts], initiator, check, SECTION, expect=BOB, connect=network.connect
        )
        assert found.address == "slow:1"
        begin = network.began["hangs"]
        assert {host: at - begin for host, at in network.began.items()} == {
            "hangs": 0.0,
            "refuses": STAGGER_S,
            "slow": STAGGER_S,
            "last": 2 * STAGGER_S,
        }
        nursery.cancel_scope.cancel()


@given(st.lists(st.sampled_from(["10.0.0.1:1", "10.0.0.2:1", "[::1]:1", "[fe80::2%3]:1", "a:1", "b:1", "c:1", "x"])))
def test_each_address_is_raced_once_the_first_first_and_at_most_eight(addresses: list[str]) -> None:
    order = race_order([*addresses, *(f"more-{n}:1" for n in range(9))])
    assert len(order) == len(set(order)) == MAX_ADDRESSES
    assert order[0] == [*addresses, "more-0:1"][0]
    assert set(dict.fromkeys(addresses)) <= set(order)


def test_families_take_turns() -> None:
    v4, v6 = [f"10.0.0.{n}:1" for n in range(3)], [f"[2001:db8::{n}]:1" for n in range(2)]
    assert race_order([*v4, *v6]) == [v4[0], v6[0], v4[1], v6[1], v4[2]]
    assert race_order([*v6, "box:1", *v4]) == [v6[0], "box:1", v4[0], v6[1], v4[1], v4[2]]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EHOSTUNREACH, "?"), "no machine answers there"),
        (OSError(errno.ENETUNREACH, "?"), "no route to it"),
        (socket.gaierror(socket.EAI_NONAME, "?"), "this name is not known"),
        (OSError("no host box:1"), "no host box:1"),
        (UnicodeError("label empty or too long"), "label empty"),
    ],
)
async def test_what_the_system_says_is_told_in_words(error: Exception, words: str) -> None:
    async def connect(host: str, port: int) -> trio.abc.Stream:
        raise error

    with pytest.raises(HandshakeFailed, match=f"box:1: no connection: {words}"):
        await dial(["box:1"], initiator, check, SECTION, connect=connect)


async def test_no_address_is_a_failure() -> None:
    with pytest.raises(HandshakeFailed, match="no address"):
        await dial([], initiator, check, SECTION)


async def test_a_port_where_nobody_listens() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    with pytest.raises(HandshakeFailed, match="refused: nothing listens on that port"):
        await dial([f"127.0.0.1:{port}"], initiator, check, SECTION)


async def test_an_address_without_a_host_or_port_is_not_dialled() -> None:
    for bad in (":6375", "box:0"):
        with pytest.raises(HandshakeFailed, match="not an address to dial"):
            await dial([bad], initiator, check, SECTION)


def test_addresses_of_both_families() -> None:
    assert split_address("box.local:6375") == ("box.local", 6375)
    assert split_address("[fe80::1%eth0]:1") == ("fe80::1%eth0", 1)


@pytest.mark.parametrize("bad", ["", "box", "box:", "box:port", "box:65536", "box:-1", "box:²"])
def test_what_is_no_address(bad: str) -> None:
    with pytest.raises(HandshakeFailed):
        split_address(bad)

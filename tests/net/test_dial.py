"""Dialling over pipes that the test hands out, in virtual time."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from meshnode.errors import HandshakeFailed
from meshnode.net import Link, dial, respond
from meshnode.net.dial import split_address
from tests.net.kit import ALICE, BOB, SECTION, check, echo, initiator, responder


class Network:
    """Hosts by name: how long a connection takes, and who answers (None: nobody)."""

    def __init__(self, nursery: trio.Nursery, hosts: dict[str, tuple[float, object]]) -> None:
        self.nursery = nursery
        self.hosts = hosts
        self.connected: list[str] = []

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        delay_s, node = self.hosts[host]
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
        assert found.initiator
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
        nursery.cancel_scope.cancel()


async def test_no_address_is_a_failure() -> None:
    with pytest.raises(HandshakeFailed, match="no address"):
        await dial([], initiator, check, SECTION)


async def test_a_port_where_nobody_listens() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    with pytest.raises(HandshakeFailed, match="no connection"):
        await dial([f"127.0.0.1:{port}"], initiator, check, SECTION)


def test_addresses_of_both_families() -> None:
    assert split_address("box.local:6375") == ("box.local", 6375)
    assert split_address("[fe80::1%eth0]:1") == ("fe80::1%eth0", 1)


@pytest.mark.parametrize("bad", ["", "box", "box:", "box:port", "box:65536", "box:-1", "box:²"])
def test_what_is_no_address(bad: str) -> None:
    with pytest.raises(HandshakeFailed):
        split_address(bad)

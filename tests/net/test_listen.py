"""The accept loop over real loopback sockets."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import structlog.testing
import trio
import trio.lowlevel

from meshnode.config.mesh import MeshSection
from meshnode.errors import ConfigError, HandshakeFailed, StartError
from meshnode.model.ids import NodeId
from meshnode.net import Authenticated, Link, Welcome, dial, open_listeners, serve
from meshnode.noise import Secrets
from tests.net.kit import (
    ALICE,
    BOB,
    HINT,
    INVITE,
    SECRETS,
    SECTION,
    ask,
    check,
    check_join,
    echo,
    initiator,
    read_all,
    responder,
)


class Door:
    """A listening node: where, and who came."""

    def __init__(self, port: int) -> None:
        self.address = f"127.0.0.1:{port}"
        self.members: list[Link] = []
        self.came_from: list[str] = []
        self.joiners: list[Link] = []

    async def on_member(self, found: Authenticated) -> None:
        self.came_from.append(found.remote_host)
        link = Link(found, echo, SECTION)
        self.members.append(link)
        await link.run()

    async def on_join(self, found: Authenticated) -> None:
        link = Link(found, echo, SECTION)
        self.joiners.append(link)
        await link.run()


@asynccontextmanager
async def door(section: MeshSection = SECTION) -> AsyncIterator[tuple[Door, trio.Nursery]]:
    listeners = await open_listeners("127.0.0.1:0")
    opened = Door(listeners[0].socket.getsockname()[1])
    welcome = Welcome(responder, check, opened.on_member, check_join, opened.on_join)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, listeners, welcome, section)
        yield opened, nursery
        nursery.cancel_scope.cancel()


async def test_a_member_dials_in_and_both_can_ask() -> None:
    async with door() as (opened, nursery):
        found = await dial([opened.address], initiator, check, SECTION, expect=BOB)
        link = Link(found, echo, SECTION)
        await nursery.start(link.run)
        assert await read_all(await link.request(ask(), b"in")) == b"in"
        assert opened.members[0].peer == ALICE and opened.came_from == ["127.0.0.1"]
        assert await read_all(await opened.members[0].request(ask(), b"out")) == b"out"
        assert opened.joiners == []


async def test_a_joiner_gets_a_link_of_its_own_kind() -> None:
    async with door() as (opened, nursery):
        found = await dial([opened.address], lambda: initiator(secrets=INVITE, hint=HINT), check, SECTION)
        link = Link(found, echo, SECTION)
        await nursery.start(link.run)
        assert await read_all(await link.request(ask("/meshnode/join"), b"let me in")) == b"let me in"
        assert (opened.joiners[0].hint, opened.joiners[0].membership) == (HINT, None)
        assert opened.members == []


async def test_strangers_read_nothing_and_harm_nobody() -> None:
    async with door() as (opened, _):
        for words in (b"GET / HTTP/1.1\r\n\r\n", b"\x01\x00\x30" + b"z" * 48):
            stream = await trio.open_tcp_stream("127.0.0.1", int(opened.address.rpartition(":")[2]))
            await stream.send_all(words)
            with suppress(trio.BrokenResourceError):
                assert await stream.receive_some(100) == b""
            await stream.aclose()
        with pytest.raises(HandshakeFailed):
            wrong = Secrets.derive(b"?" * 32, b"network")
            await dial([opened.address], lambda: initiator(secrets=wrong), check, SECTION)
        found = await dial([opened.address], initiator, check, SECTION)
        await trio.aclose_forcefully(found.stream)
        assert len(opened.members) == 1


async def test_who_knows_the_secret_and_is_refused_is_said_aloud_once_and_strangers_never() -> None:
    wrong = Secrets.derive(b"?" * 32, b"network")
    with structlog.testing.capture_logs() as logged:
        async with door() as (opened, _):
            for secrets in (SECRETS, SECRETS, wrong):
                with pytest.raises(HandshakeFailed):
                    await dial([opened.address], partial(initiator, NodeId(b"x" * 32), secrets=secrets), check, SECTION)
    said = [line["log_level"] for line in logged if line["event"] == "a connection was refused"]
    assert sorted(said) == ["debug", "debug", "warning"]


async def test_all_machines_behind_one_address_may_come_at_once() -> None:
    async with door() as (opened, _):
        found = []

        async def come() -> None:
            found.append(await dial([opened.address], initiator, check, SECTION))

        async with trio.open_nursery() as nursery:
            for _ in range(SECTION.handshake_burst + 8):
                nursery.start_soon(come)
        for each in found:
            await trio.aclose_forcefully(each.stream)


async def test_connections_beyond_the_half_open_limit_are_closed() -> None:
    async with door(replace(SECTION, half_open=1)) as (opened, _):
        port = int(opened.address.rpartition(":")[2])
        slow = await trio.open_tcp_stream("127.0.0.1", port)
        await slow.send_all(b"\x01")
        with pytest.raises(HandshakeFailed):
            await dial([opened.address], initiator, check, SECTION)
        await slow.aclose()
        # The place is free as soon as the listener has seen the close.
        for _ in range(100):
            try:
                found = await dial([opened.address], initiator, check, SECTION)
                break
            except HandshakeFailed:
                continue
        assert found.peer == BOB
        await trio.aclose_forcefully(found.stream)


async def test_a_crash_with_one_peer_is_not_the_next_ones(capsys: pytest.CaptureFixture[str]) -> None:
    listeners = await open_listeners("127.0.0.1:0")
    address = f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    calls = 0

    async def on_member(found: Authenticated) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise KeyError("a fault of ours")
        await Link(found, echo, SECTION).run()

    async with trio.open_nursery() as nursery:
        await nursery.start(serve, listeners, Welcome(responder, check, on_member), SECTION)
        with pytest.raises(HandshakeFailed):
            await dial([address], initiator, check, SECTION)
        found = await dial([address], initiator, check, SECTION)
        assert found.peer == BOB
        await trio.aclose_forcefully(found.stream)
        nursery.cancel_scope.cancel()
    said = capsys.readouterr().out
    assert "KeyError" in said and "a fault of ours" not in said


async def test_accepting_may_end_before_the_links_do() -> None:
    listeners = await open_listeners("127.0.0.1:0")
    opened = Door(listeners[0].socket.getsockname()[1])
    async with trio.open_nursery() as links, trio.open_nursery() as outer:
        async with trio.open_nursery() as accepting:
            welcome = Welcome(responder, check, opened.on_member)
            await accepting.start(partial(serve, handler_nursery=links), listeners, welcome, SECTION)
            found = await dial([opened.address], initiator, check, SECTION)
            link = Link(found, echo, SECTION)
            await outer.start(link.run)
            accepting.cancel_scope.cancel()
        with pytest.raises(HandshakeFailed):
            await dial([opened.address], initiator, check, SECTION)
        assert await read_all(await link.request(ask(), b"still here")) == b"still here"
        outer.cancel_scope.cancel()


async def test_a_port_in_use_is_said_with_its_address_and_a_word_that_is_none_is_refused() -> None:
    listeners = await open_listeners("127.0.0.1:0")
    port = listeners[0].socket.getsockname()[1]
    with pytest.raises(StartError, match="cannot listen") as caught:
        await open_listeners(f"127.0.0.1:{port}")
    assert caught.value.address == f"127.0.0.1:{port}"
    with pytest.raises(ConfigError, match="not an address"):
        await open_listeners("nowhere")
    await listeners[0].aclose()


def ports(listeners: list[trio.SocketListener]) -> list[int]:
    return [listener.socket.getsockname()[1] for listener in listeners]


def families(listeners: list[trio.SocketListener]) -> list[int]:
    return [listener.socket.family for listener in listeners]


async def close(listeners: list[trio.SocketListener]) -> None:
    for listener in listeners:
        await listener.aclose()


class System:
    """Stands in for what listens: families that are missing, ports that are taken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: dict[str, list[int]]) -> None:
        self.fails = fails
        self.asked: list[tuple[str, int]] = []
        self._open = trio.open_tcp_listeners
        monkeypatch.setattr(trio, "open_tcp_listeners", self)

    async def __call__(self, port: int, *, host: str, backlog: int) -> list[trio.SocketListener]:
        self.asked.append((host, port))
        if self.fails.get(host):
            raise OSError(self.fails[host].pop(0), "as the system says")
        # A name for each family on loopback, whatever families this machine has.
        return await self._open(port, host="127.0.0.1" if host == "0.0.0.0" else "127.0.0.2", backlog=backlog)


@pytest.mark.skipif(not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists(), reason="no IPv6 on this machine")
async def test_an_empty_host_is_both_families_on_one_port() -> None:
    listeners = await open_listeners(":0")
    assert families(listeners) == [socket.AF_INET, socket.AF_INET6]
    assert len(set(ports(listeners))) == 1
    opened = Door(ports(listeners)[0])
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, listeners, Welcome(responder, check, opened.on_member), SECTION)
        for host in ("127.0.0.1", "[::1]"):
            found = await dial([f"{host}:{ports(listeners)[0]}"], initiator, check, SECTION)
            await trio.aclose_forcefully(found.stream)
        while len(opened.came_from) < 2:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert set(opened.came_from) == {"127.0.0.1", "::1"}


@pytest.mark.parametrize("missing", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
@pytest.mark.parametrize(("gone", "there"), [("::", "0.0.0.0"), ("0.0.0.0", "::")])
async def test_a_machine_with_one_family_listens_with_that(
    monkeypatch: pytest.MonkeyPatch, missing: int, gone: str, there: str
) -> None:
    system = System(monkeypatch, {gone: [missing]})
    listeners = await open_listeners(":0")
    assert len(listeners) == 1 and {host for host, _ in system.asked} == {gone, there}
    await close(listeners)


async def test_a_machine_with_no_family_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    System(monkeypatch, {"0.0.0.0": [errno.EAFNOSUPPORT], "::": [errno.EAFNOSUPPORT]})
    with pytest.raises(StartError, match="cannot listen on :6375"):
        await open_listeners(":6375")


async def test_any_port_that_is_taken_in_one_family_is_left_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    system = System(monkeypatch, {"::": [errno.EADDRINUSE, errno.EADDRINUSE]})
    listeners = await open_listeners(":0")
    assert len(set(ports(listeners))) == 1 and len(system.asked) == 6
    await close(listeners)
    System(monkeypatch, {"::": [errno.EADDRINUSE] * 100})
    with pytest.raises(StartError, match="no port is free in both"):
        await open_listeners(":0")


async def test_a_chosen_port_that_is_taken_in_one_family_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    System(monkeypatch, {"::": [errno.EADDRINUSE]})
    with pytest.raises(StartError, match="cannot listen"):
        await open_listeners(":16375")


async def test_a_name_of_several_addresses_has_one_port() -> None:
    listeners = await open_listeners("localhost:0")
    assert len(set(ports(listeners))) == 1
    await close(listeners)

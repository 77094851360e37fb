"""The multicast thread with zeroconf's sockets replaced: its cache, records and names are the real ones."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_address, ip_network
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from zeroconf import DNSAddress, DNSCache, DNSPointer, DNSService, DNSText, RecordUpdate, ServiceInfo  # type: ignore

from meshnode.mesh import multicast
from meshnode.mesh.multicast import MAX_RECORDS, Multicast
from meshnode.mesh.records import TYPE, Post, mesh_hash, properties

OURS, THEIRS = mesh_hash(b"m" * 32), mesh_hash(b"n" * 32)
LONG_TTL = 2**31 - 1


def post(interface: str, number: int) -> Post:
    host = f"10.{number}.0.1"
    own = frozenset({f"{host}:6375"})
    return Post(interface, host, (ip_address(host).packed,), (ip_network(f"10.{number}.0.0/16"),), own)


ETH0, WLAN0 = post("eth0", 1), post("wlan0", 2)


class Socket:
    family = socket.AF_INET

    def __init__(self) -> None:
        self.options: list[tuple[object, ...]] = []

    def setsockopt(self, *option: object) -> None:
        self.options.append(option)


class Wire:
    """Stands for one AsyncZeroconf and its Zeroconf."""

    def __init__(self, interfaces: list[str], **_: Any) -> None:
        self.at = interfaces[0]
        self.zeroconf = self
        self.cache = DNSCache()
        self.sent: list[Any] = []
        self.services: list[ServiceInfo] = []
        self.listener: Any = None
        self.closed = False
        self.sock = Socket()
        reader = SimpleNamespace(transport=SimpleNamespace(get_extra_info=lambda _: self.sock))
        self.engine = SimpleNamespace(senders=[object()], readers=[reader])

    async def async_wait_for_start(self) -> None:
        return None

    def async_add_listener(self, listener: Any, _: None) -> None:
        self.listener = listener

    async def async_register_service(self, info: ServiceInfo, **_: Any) -> Awaitable[None]:
        self.services.append(info)
        return asyncio.sleep(0)

    def async_send(self, out: Any) -> None:
        self.sent.append(out)

    def generate_unregister_all_services(self) -> str:
        return "goodbye"

    async def async_close(self) -> None:
        self.closed = True

    def receive(self, *records: Any) -> None:
        """As zeroconf does with a packet: listeners, then the cache, then listeners again."""
        self.listener.async_update_records(self, 0.0, [RecordUpdate(record, None) for record in records])
        self.cache.async_add_records(records)
        self.listener.async_update_records_complete()


def packet(name: str, mesh: bytes, host: str, port: int = 7000) -> list[Any]:
    info = ServiceInfo(TYPE, name, port, properties=properties(mesh), server=f"{name[:8]}.local.", addresses=[
        ip_address(host).packed])  # fmt: skip
    now = 1e15  # in the future, so that nothing has expired
    made = [
        DNSPointer(TYPE, 12, 1, LONG_TTL, name, now),
        DNSService(name, 33, 1, LONG_TTL, 0, 0, port, info.server, now),
        DNSText(name, 16, 1, LONG_TTL, info.text, now),
    ]
    return [*made, DNSAddress(info.server, 1, 1, LONG_TTL, ip_address(host).packed, created=now)]


class Ether:
    """All the wires that one Multicast opened. `refuse` are addresses where it cannot."""

    def __init__(self, port: int | None = 6375) -> None:
        self.heard: list[str] = []
        self.wires: list[Wire] = []
        self.refuse: set[str] = set()
        self.multicast = Multicast(OURS, port, self.heard.append, self._open)

    def open_at(self) -> list[str]:
        return [wire.at for wire in self.wires if not wire.closed]

    def _open(self, interfaces: list[str], **options: Any) -> Any:
        if interfaces[0] in self.refuse:
            raise OSError(98, "Address already in use")
        self.wires.append(Wire(interfaces, **options))
        return self.wires[-1]

    def live(self, steps: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            running = asyncio.create_task(self.multicast._run())
            await settle()
            try:
                await steps()
            finally:
                self.multicast.stop()
                await running

        asyncio.run(main())


async def settle() -> None:
    """Let everything run that can without time passing."""
    for _ in range(50):
        await asyncio.sleep(0)


def test_it_speaks_where_it_is_told_and_says_goodbye_where_it_no_longer_is() -> None:
    ether = Ether()
    ether.multicast.speak_on((ETH0,))

    async def steps() -> None:
        assert ether.open_at() == ["10.1.0.1"]
        ether.multicast.speak_on((ETH0, WLAN0))
        await settle()
        assert ether.open_at() == ["10.1.0.1", "10.2.0.1"]
        ether.multicast.speak_on((WLAN0,))
        await settle()
        assert ether.open_at() == ["10.2.0.1"]

    ether.live(steps)
    assert ether.open_at() == []
    assert all("goodbye" in wire.sent for wire in ether.wires)


def test_what_is_announced_is_random_names_a_hash_and_the_interfaces_addresses() -> None:
    ether = Ether()
    ether.multicast.speak_on((ETH0, WLAN0))
    ether.live(settle)
    infos = [info for wire in ether.wires for info in wire.services]
    assert [info.parsed_addresses() for info in infos] == [["10.1.0.1"], ["10.2.0.1"]]
    assert [info.properties for info in infos] == [properties(OURS)] * 2
    assert len({name for info in infos for name in (info.name, info.server)}) == 4
    assert all(socket.gethostname() not in f"{info.name}{info.server}" for info in infos)


def test_a_node_that_only_dials_out_listens_and_announces_nothing() -> None:
    ether = Ether(port=None)
    ether.multicast.speak_on((ETH0,))

    async def steps() -> None:
        ether.wires[0].receive(*packet(f"neighbour.{TYPE}", OURS, "10.1.0.9"))

    ether.live(steps)
    assert ether.wires[0].services == []
    assert ether.heard == ["10.1.0.9:7000"]


def test_an_interface_that_cannot_be_spoken_on_is_no_fault_of_others_is_told_once_and_tried_again() -> None:
    ether = Ether()
    ether.refuse = {"10.1.0.1"}
    with structlog.testing.capture_logs() as logged:

        async def steps() -> None:
            for _ in range(3):
                ether.multicast.speak_on((ETH0, WLAN0))
                await settle()
            assert ether.open_at() == ["10.2.0.1"]
            ether.refuse = set()
            ether.multicast.speak_on((ETH0, WLAN0))
            await settle()
            assert sorted(ether.open_at()) == ["10.1.0.1", "10.2.0.1"]

        ether.live(steps)
    (line,) = logged
    assert line["interface"] == "eth0"
    assert "already in use" in line["reason"]


def test_only_members_on_the_same_link_are_heard_and_other_meshes_are_counted() -> None:
    ether = Ether()
    ether.multicast.speak_on((ETH0, WLAN0))

    async def steps() -> None:
        eth0, wlan0 = ether.wires
        eth0.receive(*packet(f"neighbour.{TYPE}", OURS, "10.1.0.9"))
        eth0.receive(*packet(f"stranger.{TYPE}", THEIRS, "10.1.0.10"))
        wlan0.receive(*packet(f"elsewhere.{TYPE}", OURS, "10.1.0.11"))
        own = eth0.services[0]
        eth0.receive(*packet(own.name, OURS, "10.1.0.12"))

    ether.live(steps)
    assert ether.heard == ["10.1.0.9:7000"]
    assert ether.multicast.others == {THEIRS}


@pytest.mark.parametrize(
    "name", [f".{TYPE}", f"{'x' * 200}.{TYPE}", f"\x00\n.{TYPE}", f"a.b.c.{TYPE}", "_meshnode._tcp"]
)
def test_a_name_that_is_none_spoils_nothing(name: str) -> None:
    ether = Ether()
    ether.multicast.speak_on((ETH0,))

    async def steps() -> None:
        ether.wires[0].receive(DNSText(name, 16, 1, LONG_TTL, b"\x03v=1", 1e15))
        ether.wires[0].receive(*packet(f"neighbour.{TYPE}", OURS, "10.1.0.9"))

    ether.live(steps)
    assert ether.heard == ["10.1.0.9:7000"]


def test_twenty_thousand_made_up_names_leave_a_small_cache() -> None:
    ether = Ether()
    ether.multicast.speak_on((ETH0,))
    most = 0

    async def steps() -> None:
        nonlocal most
        wire = ether.wires[0]
        for number in range(20_000):
            wire.receive(*packet(f"{number:08x}.{TYPE}", OURS, f"10.1.{number >> 8 & 255}.{number & 255}"))
            most = max(most, sum(len(wire.cache.entries_with_name(name)) for name in (TYPE,)))
        wire.receive(*packet(f"neighbour.{TYPE}", OURS, "10.1.0.9"))

    ether.live(steps)
    assert most <= MAX_RECORDS
    assert len(ether.wires[0].cache.names()) <= MAX_RECORDS
    assert ether.heard[-1] == "10.1.0.9:7000"


@pytest.mark.parametrize(("worked_s", "paused"), [(0.1, []), (0.3, [0.5]), (5.0, [multicast.LONGEST_PAUSE_S])])
def test_a_thread_that_worked_more_than_its_share_stands_still(
    worked_s: float, paused: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = {"monotonic": iter([0.0, 1.0]), "thread_time": iter([0.0, worked_s])}
    monkeypatch.setattr(multicast, "CALM_S", 0.0)
    monkeypatch.setattr(multicast, "time", SimpleNamespace(**{name: clock.__next__ for name, clock in clocks.items()}))
    governed = Ether().multicast
    waits: list[float] = []
    monkeypatch.setattr(governed._stopped, "wait", waits.append)
    with pytest.raises((RuntimeError, StopIteration)):  # the clocks have no third reading
        asyncio.run(governed._keep_to_share())
    assert waits == pytest.approx(paused)

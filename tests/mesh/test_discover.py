"""Interfaces watched and neighbours heard: with a fake voice in virtual time, and for real in network namespaces."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from trio.testing import MockClock

from meshnode.config.mesh import MeshSection
from meshnode.mesh.discover import GOODBYE_S, LOOK_S, QUEUE, SILENCE_S, Discovery, Listening, System
from meshnode.mesh.interfaces import Confinement, Interface, Kind
from meshnode.mesh.records import Post, mesh_hash
from tests.kit.waiting import PATIENCE_S


def interface(name: str, kind: Kind, *told: str) -> Interface:
    return Interface(name, kind, tuple(ip_interface(address) for address in told))


ETH0 = interface("eth0", "lan", "192.168.1.5/24")
WLAN0 = interface("wlan0", "lan", "10.0.0.7/8")
DOCKER0 = interface("docker0", "bridge", "172.17.0.1/16")
LO = interface("lo", "loopback", "127.0.0.1/8")


class Voice:
    """Stands for the multicast thread."""

    def __init__(self, mesh: bytes, port: int | None, heard: Callable[[str], None]) -> None:
        self.mesh, self.port, self.hear = mesh, port, heard
        self.others: set[bytes] = set()
        self.spoken: list[tuple[Post, ...]] = []
        self.stopped = threading.Event()

    def run(self) -> None:
        self.stopped.wait()

    def speak_on(self, wanted: tuple[Post, ...]) -> None:
        if not self.spoken or self.spoken[-1] != wanted:
            self.spoken.append(wanted)

    def stop(self) -> None:
        self.stopped.set()


class World:
    """A machine whose interfaces change as told, with one Discovery."""

    def __init__(self, section: MeshSection, listening: Listening | None, confined: Confinement | None = None) -> None:
        self.interfaces = [ETH0, LO]
        self.voices: list[Voice] = []
        self.heard: list[str] = []
        self.moved: list[tuple[str, ...]] = []
        self.links = 0
        self.logged: list[Any] = []
        self.discovery = Discovery(
            section,
            b"m" * 32,
            listening,
            heard=self.heard.append,
            moved=self.moved.append,
            linked=lambda: self.links > 0,
            system=System(lambda: tuple(self.interfaces), lambda: confined, self._open, self._in_thread),
        )

    @property
    def voice(self) -> Voice:
        (voice,) = self.voices
        return voice

    def said(self, words: str) -> list[Any]:
        return [line for line in self.logged if words in line["event"]]

    def _open(self, mesh: bytes, port: int | None, heard: Callable[[str], None]) -> Voice:
        self.voices.append(Voice(mesh, port, heard))
        return self.voices[-1]

    async def _in_thread(self, work: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """What threads do, in virtual time: reading is instant, the voice speaks for as long as it may."""
        if options:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        return work(*args)

    async def live(self, steps: Callable[[], Any]) -> None:
        with structlog.testing.capture_logs() as self.logged:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.discovery.run)
                await trio.sleep(1)
                await steps()
                nursery.cancel_scope.cancel()


HERE = Listening("", 6375, ("192.168.1.5:6375",))


async def test_a_node_speaks_where_it_may_and_follows_its_interfaces(autojump_clock: MockClock) -> None:
    world = World(MeshSection(), HERE)

    async def steps() -> None:
        assert [post.interface for post in world.voice.spoken[-1]] == ["eth0"]
        world.interfaces += [WLAN0, DOCKER0]
        await trio.sleep(LOOK_S)
        assert [post.interface for post in world.voice.spoken[-1]] == ["eth0", "wlan0"]
        world.interfaces.remove(ETH0)
        await trio.sleep(LOOK_S)
        assert [post.interface for post in world.voice.spoken[-1]] == ["wlan0"]

    await world.live(steps)
    assert (world.voice.mesh, world.voice.port) == (mesh_hash(b"m" * 32), 6375)
    assert world.voice.stopped.is_set()


async def test_a_moved_address_is_told_once_and_an_unmoved_one_never(autojump_clock: MockClock) -> None:
    world = World(MeshSection(), HERE)

    async def steps() -> None:
        await trio.sleep(10 * LOOK_S)
        assert world.moved == []
        world.interfaces = [WLAN0, LO]
        await trio.sleep(10 * LOOK_S)

    await world.live(steps)
    assert world.moved == [("10.0.0.7:6375",)]


async def test_what_moved_before_the_first_look_is_told(autojump_clock: MockClock) -> None:
    world = World(MeshSection(), Listening("", 6375, ("192.168.9.9:6375",)))
    await world.live(trio.lowlevel.checkpoint)
    assert world.moved == [("192.168.1.5:6375",)]


@pytest.mark.parametrize(
    ("section", "listening"),
    [
        (MeshSection(advertise=("mesh.example:6375",)), Listening("", 6375, ("mesh.example:6375",))),
        (MeshSection(), Listening("192.168.1.5", 6375, ("192.168.1.5:6375",))),
        (MeshSection(), None),
    ],
)
async def test_addresses_that_were_chosen_do_not_move(
    section: MeshSection, listening: Listening | None, autojump_clock: MockClock
) -> None:
    world = World(section, listening)

    async def steps() -> None:
        world.interfaces = [WLAN0, LO]
        await trio.sleep(10 * LOOK_S)

    await world.live(steps)
    assert world.moved == []
    assert len(world.voices) == 1


@pytest.mark.parametrize(
    ("section", "listening"),
    [
        (MeshSection(mdns=False), HERE),
        (MeshSection(), Listening("127.0.0.1", 6375, ("127.0.0.1:6375",))),
        (MeshSection(), Listening("::1", 6375, ("[::1]:6375",))),
    ],
)
async def test_nothing_is_opened_where_multicast_is_off_or_others_are_shut_out(
    section: MeshSection, listening: Listening, autojump_clock: MockClock
) -> None:
    world = World(section, listening)

    async def steps() -> None:
        await trio.sleep(SILENCE_S * 2)

    await world.live(steps)
    assert world.voices == []
    assert world.said("heard") == []


async def test_without_multicast_a_moved_address_is_still_told(autojump_clock: MockClock) -> None:
    world = World(MeshSection(mdns=False), HERE)

    async def steps() -> None:
        world.interfaces = [WLAN0, LO]
        await trio.sleep(LOOK_S)

    await world.live(steps)
    assert world.moved == [("10.0.0.7:6375",)]


async def test_hints_come_through_in_order_and_a_flood_is_cut(autojump_clock: MockClock) -> None:
    world = World(MeshSection(), HERE)

    async def steps() -> None:
        world.voice.hear("192.168.1.9:6375")
        await trio.sleep(1)
        assert world.heard == ["192.168.1.9:6375"]
        for port in range(20_000):
            world.voice.hear(f"192.168.1.9:{port}")
        await trio.sleep(1)

    await world.live(steps)
    assert world.heard[1:] == [f"192.168.1.9:{port}" for port in range(QUEUE)]


async def test_silence_is_explained_once_with_what_to_try(autojump_clock: MockClock) -> None:
    world = World(MeshSection(), HERE)

    async def steps() -> None:
        world.voice.others.add(b"0123456789abcdef")
        await trio.sleep(10 * SILENCE_S)

    await world.live(steps)
    (line,) = world.said("heard by multicast in 30 s")
    assert line["interfaces"] == "eth0"
    assert line["other_meshes"] == 1
    for what in ("meshnode join", "--peer", "UDP port 5353", "meshnode doctor"):
        assert what in line["try_this"]


async def test_silence_is_no_news_to_whoever_has_a_peer_or_heard_one(autojump_clock: MockClock) -> None:
    linked, hearing = World(MeshSection(), HERE), World(MeshSection(), HERE)
    linked.links = 1

    async def wait() -> None:
        await trio.sleep(2 * SILENCE_S)

    async def hear() -> None:
        hearing.voice.hear("192.168.1.9:6375")
        await wait()

    await linked.live(wait)
    await hearing.live(hear)
    assert linked.said("heard") == hearing.said("heard") == []


async def test_skipped_interfaces_are_explained_once_for_each_reason(autojump_clock: MockClock) -> None:
    world = World(MeshSection(), HERE)
    world.interfaces += [interface(f"veth{n}", "bridge", f"172.18.{n}.1/24") for n in range(9)]
    world.interfaces += [interface("ens3", "public", "203.0.113.9/24")]

    async def steps() -> None:
        world.interfaces.append(DOCKER0)
        await trio.sleep(10 * LOOK_S)

    await world.live(steps)
    lines = world.said("multicast DNS is not spoken")
    assert {line["on"] for line in lines} == {"veth0, veth1, veth2, veth3 and 5 more", "ens3"}
    assert len(lines) == 2


async def test_who_runs_in_a_container_is_told_what_that_means(autojump_clock: MockClock) -> None:
    world = World(MeshSection(), HERE, Confinement("container", "others reach published ports only"))
    await world.live(trio.lowlevel.checkpoint)
    (line,) = world.said("container")
    assert line["so"] == "others reach published ports only"


async def test_a_voice_that_breaks_leaves_the_node_alone(autojump_clock: MockClock) -> None:
    world = World(MeshSection(), HERE)

    def broken(*_: object) -> Any:
        raise OSError(93, "Protocol not supported")

    world.discovery._system = System(lambda: tuple(world.interfaces), lambda: None, broken, world._in_thread)

    async def steps() -> None:
        world.interfaces = [WLAN0]
        await trio.sleep(LOOK_S)

    await world.live(steps)
    assert world.moved == [("10.0.0.7:6375",)]
    assert world.said("multicast DNS ended")


async def test_a_thread_that_does_not_end_does_not_hold_the_node(autojump_clock: MockClock) -> None:
    world = World(MeshSection(), HERE)
    await world.live(trio.lowlevel.checkpoint)
    # The fake never returns from its thread: leaving waited for a goodbye, and then no longer.
    assert trio.current_time() == pytest.approx(1 + GOODBYE_S)


async def test_a_real_thread_is_asked_to_end_and_waited_for() -> None:
    voices: list[Voice] = []
    heard = trio.Event()
    ended = threading.Event()

    class Talking(Voice):
        def run(self) -> None:
            self.hear("192.168.1.9:6375")
            super().run()
            ended.set()

    def open_voice(mesh: bytes, port: int | None, hear: Callable[[str], None]) -> Voice:
        voices.append(Talking(mesh, port, hear))
        return voices[-1]

    system = System(lambda: (ETH0,), lambda: None, open_voice)
    discovery = Discovery(
        MeshSection(), b"m" * 32, HERE, heard=lambda _: heard.set(), moved=print, linked=lambda: False, system=system
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(discovery.run)
        await heard.wait()
        nursery.cancel_scope.cancel()
    assert ended.is_set()


SCRIPT = Path(__file__).with_name("namespaced.py")
NAMESPACES = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None,
    reason="network namespaces need Linux, root and iproute2",
)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=PATIENCE_S)


class Lan:
    """Two network namespaces with a wire between them, lan0 at each end, and a public wire beside it."""

    def __init__(self) -> None:
        self.ends = [f"meshnode-{os.getpid()}-{side}" for side in "ab"]
        self.children: list[subprocess.Popen[str]] = []

    def up(self) -> None:
        for end in self.ends:
            ip("netns", "add", end)
            ip("-n", end, "link", "set", "lo", "up")
        for wire, prefix in (("lan0", "10.77.0"), ("pub0", "203.0.113")):
            a, b = self.ends
            ip("-n", a, "link", "add", wire, "type", "veth", "peer", "name", wire, "netns", b)
            for number, end in enumerate(self.ends, start=1):
                ip("-n", end, "address", "add", f"{prefix}.{number}/24", "dev", wire)
                ip("-n", end, "link", "set", wire, "up")

    def down(self) -> None:
        for child in self.children:
            child.kill()
            child.communicate()
        for end in self.ends:
            subprocess.run(["ip", "netns", "delete", end], capture_output=True, timeout=PATIENCE_S, check=False)

    def run(self, end: int, *command: str) -> subprocess.Popen[str]:
        environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        child = subprocess.Popen(
            ["ip", "netns", "exec", self.ends[end], sys.executable, *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environ,
        )  # fmt: skip
        self.children.append(child)
        return child

    def node(self, end: int, port: int, mesh: str) -> subprocess.Popen[str]:
        return self.run(end, str(SCRIPT), str(port), mesh)


@pytest.fixture
def lan() -> Iterator[Lan]:
    made = Lan()
    try:
        made.up()
        yield made
    finally:
        made.down()


def until(child: subprocess.Popen[str], words: str) -> None:
    """Read what a child says until it says this; it fails at once when the child ends without."""
    assert child.stdout is not None
    said = []
    for line in child.stdout:
        said.append(line)
        if words in line:
            return
    pytest.fail(f"never said {words!r}, but {said}")


def end(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()
    until(child, "left")
    assert child.wait(PATIENCE_S) == 0


@pytest.mark.real
@NAMESPACES
def test_two_nodes_of_one_mesh_on_one_lan_hear_each_other_and_a_third_on_the_same_machine(lan: Lan) -> None:
    here, there, beside = lan.node(0, 7001, "ours"), lan.node(1, 7002, "ours"), lan.node(0, 7003, "ours")
    until(here, "heard 10.77.0.2:7002")
    until(there, "heard 10.77.0.1:7001")
    until(beside, "heard 10.77.0.1:7001")
    for child in (here, there, beside):
        end(child)


LISTEN = """
import socket, struct, sys
heard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
heard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
heard.bind(("224.0.0.251", 5353))
heard.setsockopt(0, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("224.0.0.251") + socket.inet_aton(sys.argv[1]))
print("ready", flush=True)
while True:
    print(heard.recv(9000).hex(), flush=True)
"""


@pytest.mark.real
@NAMESPACES
def test_who_is_no_member_hears_a_hash_and_addresses_and_a_goodbye_at_the_end(lan: Lan) -> None:
    stranger = lan.run(1, "-c", LISTEN, "10.77.0.2")
    until(stranger, "ready")
    node = lan.node(0, 7001, "a mesh with a name")
    packets = []
    assert stranger.stdout is not None
    for line in stranger.stdout:
        packets.append(bytes.fromhex(line))
        if b"v=1" in packets[-1]:
            break
    end(node)
    # PTR with a TTL of nothing: type 12, class 1, TTL 0.
    for line in stranger.stdout:
        packets.append(bytes.fromhex(line))
        if b"\x00\x0c\x00\x01\x00\x00\x00\x00" in packets[-1]:
            break
    everything = b"".join(packets)
    mesh = b"a mesh with a name".ljust(32)
    assert b"m=" + mesh_hash(mesh) in everything
    assert socket.inet_aton("10.77.0.1") in everything
    assert socket.inet_aton("203.0.113.1") not in everything
    for secret in (mesh, mesh.hex().encode(), socket.gethostname().encode(), b"name"):
        assert secret not in everything


ASK = """
import socket, sys
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.settimeout(float(sys.argv[2]))
question = bytes.fromhex("000100000001000000000000") + b"\\x09_meshnode\\x04_tcp\\x05local\\x00\\x00\\x0c\\x00\\x01"
asking.sendto(question, (sys.argv[1], 5353))
try:
    print("answer", len(asking.recv(9000)), flush=True)
except OSError:
    print("silence", flush=True)
"""


@pytest.mark.real
@NAMESPACES
def test_who_asks_at_a_public_address_gets_no_answer(lan: Lan) -> None:
    node, other = lan.node(0, 7001, "ours"), lan.node(1, 7002, "ours")
    until(node, "heard 10.77.0.2:7002")
    until(other, "heard 10.77.0.1:7001")
    end(other)
    until(lan.run(1, "-c", ASK, "10.77.0.1", str(PATIENCE_S)), "answer")
    until(lan.run(1, "-c", ASK, "203.0.113.1", "1"), "silence")
    end(node)


@pytest.mark.real
@NAMESPACES
def test_an_address_that_moved_is_told_and_announced_anew(lan: Lan) -> None:
    node, other = lan.node(0, 7001, "ours"), lan.node(1, 7002, "ours")
    until(other, "heard 10.77.0.1:7001")
    ip("-n", lan.ends[0], "address", "add", "10.77.0.99/24", "dev", "lan0")
    ip("-n", lan.ends[0], "address", "delete", "10.77.0.1/24", "dev", "lan0")
    ip("-n", lan.ends[0], "address", "replace", "10.77.0.99/24", "dev", "lan0")
    until(node, "moved 10.77.0.99:7001")
    until(other, "heard 10.77.0.99:7001")
    for child in (node, other):
        end(child)

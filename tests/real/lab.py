"""Networks to break: hosts, segments and NAT routers, each a network namespace, joined by veth pairs and bridges.

What is here is the kernel's own: a cut is a cable without carrier, a moved host has another address, and a NAT is a
router namespace that masquerades (iptables, with connection tracking) what leaves and forwards nothing new inwards;
nobody outside has a route to the addresses behind it. The machine's own interfaces, routes and filters are never
touched: links are made inside namespaces. Needs root, iproute2, and iptables for NAT. Counterpart: test_network.py.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, ParamSpec, Self, TypeVar

from tests.real.kit import PATIENCE_S, EngineThread, NodeProcess, command

P = ParamSpec("P")
T = TypeVar("T")

PREFIX = "meshnode-test-"
"""Every namespace is named by this, the id of the process whose test made it, and its own name."""

HANDS = 4
"""Calls into one namespace at the same time."""

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWNET = 0x0002_0000, 0x0400_0000, 0x4000_0000
"""linux/sched.h; os.setns and os.unshare are Python 3.12's."""

MS_REC, MS_SLAVE = 0x4000, 0x8_0000
"""linux/mount.h."""

EVERY_PROTOCOL = 0x0003
"""ETH_P_ALL of linux/if_ether.h."""


def ip(*arguments: str) -> str:
    """What iproute2's `ip` printed; it must have succeeded."""
    return run("ip", *arguments)


def run(*line: str) -> str:
    """What a command printed; it must have succeeded."""
    ran = subprocess.run(line, capture_output=True, timeout=PATIENCE_S, check=False)
    assert ran.returncode == 0, f"{' '.join(line)}: {ran.stderr.decode().strip()}"
    return ran.stdout.decode()


def together(*calls: Callable[[], T]) -> list[T]:
    """What each returns, called at the same time: a node takes a second to start."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [called.result() for called in [pool.submit(call) for call in calls]]


def lacking(*, nat: bool = True) -> str:
    """Why there can be no lab (with NAT routers in it) on this machine; "" where there can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "network namespaces need root"
    for tool, package in (("ip", "iproute2"), ("iptables", "iptables")):
        if shutil.which(tool) is None and (nat or tool == "ip"):
            return f"`{tool}` is missing (package {package})"
    try:
        with Lab(Path()) as lab:
            lab.host("probe")
    except (AssertionError, OSError) as error:
        return f"this machine makes no network namespaces: {error}"
    return ""


class Namespace:
    """One network namespace, with a host name of its own. `inside` calls a function in it."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.name = name
        self.namespace = f"{PREFIX}{os.getpid()}-{name}"
        self.hostname = f"host-of-{name}"
        ip("netns", "add", self.namespace)
        lab.stack.callback(ip, "netns", "delete", self.namespace)
        self._hands = ThreadPoolExecutor(HANDS, initializer=self._enter)
        lab.stack.callback(self._hands.shutdown)
        self.ip("link", "set", "lo", "up")
        # Addresses that nobody else has need no detection of duplicates, which takes a second.
        self.inside(Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text, "0")

    def inside(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Call it on a thread that lives here: sockets that it opens and processes and threads that it starts are
        in this namespace for good."""
        return self._hands.submit(function, *arguments, **named).result()

    def ip(self, *arguments: str) -> str:
        """iproute2's `ip` on what is in here."""
        return ip("-netns", self.namespace, *arguments)

    def capture(self) -> Capture:
        """Everything that passes any interface here from now on. Leaving it ends it."""
        return self.inside(Capture)

    def _enter(self) -> None:
        """What `ip netns exec` does, for one thread: /sys shows the interfaces of the namespace it was mounted in."""
        libc = ctypes.CDLL(None, use_errno=True)

        def succeeded(failed: int) -> None:
            if failed:
                raise OSError(ctypes.get_errno(), f"cannot enter {self.namespace}")

        with Path(f"/run/netns/{self.namespace}").open("rb") as namespace:
            succeeded(libc.setns(namespace.fileno(), CLONE_NEWNET))
        succeeded(libc.unshare(CLONE_NEWNS | CLONE_NEWUTS))
        succeeded(libc.mount(b"none", b"/", None, MS_REC | MS_SLAVE, None))
        succeeded(libc.mount(b"sysfs", b"/sys", b"sysfs", 0, None))
        socket.sethostname(self.hostname)


class Segment(Namespace):
    """A bridge that hosts are plugged into; it has no address and leads nowhere else."""

    def __init__(self, lab: Lab, name: str) -> None:
        super().__init__(lab, name)
        self.ports = (f"port{number}" for number in itertools.count())
        # Without snooping every multicast goes to every port, as on a plain switch.
        self.ip("link", "add", "bridge", "up", "type", "bridge", "mcast_snooping", "0")


class Cable:
    """A host's interface and the port of the segment where it ends."""

    def __init__(self, host: Host, segment: Segment, interface: str, port: str) -> None:
        self.host = host
        self.segment = segment
        self.interface = interface
        self._port = port

    @property
    def mac(self) -> bytes:
        """The interface's own address on the segment."""
        found = self.host.ip("-brief", "link", "show", "dev", self.interface).split()[2]
        return bytes.fromhex(found.replace(":", ""))

    def cut(self) -> None:
        """Pull it: the host sees an interface without carrier, and nothing passes."""
        self.segment.ip("link", "set", self._port, "down")

    def restore(self) -> None:
        """Plug it in again."""
        self.segment.ip("link", "set", self._port, "up")

    def address(self, *addresses: str) -> None:
        """Give the interface these and no others: the host was renumbered."""
        self.host.ip("address", "flush", "dev", self.interface, "scope", "global")
        for address in addresses:
            self.host.ip("address", "add", address, "dev", self.interface)


class Host(Namespace):
    """A machine: interfaces, routes, at most one home, engines."""

    def __init__(self, lab: Lab, name: str) -> None:
        super().__init__(lab, name)
        self.cables: list[Cable] = []

    def plug(self, segment: Segment, *addresses: str) -> Cable:
        """A new interface with these addresses (`a.b.c.d/n`, `x::y/n`) on `segment`."""
        interface, port = f"eth{len(self.cables)}", next(segment.ports)
        self.ip("link", "add", interface, "type", "veth", "peer", "name", port, "netns", segment.namespace)
        segment.ip("link", "set", port, "master", "bridge", "up")
        self.ip("link", "set", interface, "up")
        cable = Cable(self, segment, interface, port)
        cable.address(*addresses)
        self.cables.append(cable)
        return cable

    def route(self, to: str, *how: str) -> None:
        """`via ADDRESS`, `blackhole`, `default`: what `ip route replace` understands."""
        kind = how[:1] if how[:1] in (("blackhole",), ("prohibit",), ("unreachable",)) else ()
        self.ip("route", "replace", *kind, to, *how[len(kind) :])

    def forward(self) -> None:
        """Become a router."""
        self.inside(Path("/proc/sys/net/ipv4/ip_forward").write_text, "1")

    def masquerade(self, outside: Cable) -> None:
        """Become a NAT towards `outside`: who is behind leaves under its address, and no connection begins there."""
        self.forward()
        tables = [shutil.which("iptables") or "iptables", "--wait"]
        self.inside(run, *tables, "-t", "nat", "-A", "POSTROUTING", "-o", outside.interface, "-j", "MASQUERADE")
        state = ("-m", "conntrack", "--ctstate", "NEW", "-j", "DROP")
        self.inside(run, *tables, "-A", "FORWARD", "-i", outside.interface, *state)

    def engine(self, **settings: Any) -> EngineThread:
        """A fake engine here, until the lab is left."""
        made = EngineThread(**settings)
        self.inside(made.__enter__)
        self.lab.stack.callback(made.__exit__)
        return made

    def node(
        self, *arguments: str, mesh: str = ":6375", config: str = "", invite: str = "", start: bool = True
    ) -> HostNode:
        """A node, joined with `invite` where one is given, and ended when the lab is left."""
        made = HostNode(self, *(arguments or ("--engines", "none")), mesh=mesh)
        made.home.mkdir(mode=0o700)
        (made.home / "config.toml").write_text(config)
        if invite:
            made.command("join", invite)
        self.lab.stack.push(made)
        return made.start() if start else made


class HostNode(NodeProcess):
    """A node of a host; named by it."""

    quiet = ()  # multicast stays in the namespaces; the configuration says whether it is on

    def __init__(self, host: Host, *arguments: str, mesh: str) -> None:
        super().__init__(host.lab.folder / host.name, *arguments, mesh=mesh, level="debug")
        self.host = host

    def start(self) -> Self:
        """As a NodeProcess starts, with the address to listen at that it was first given: the port is free here."""
        mesh = self.mesh
        self.host.inside(super().start)
        self.mesh = mesh
        return self

    def get(self, path: str) -> Any:
        """The JSON behind a path of its API."""
        return self.host.inside(super().get, path)

    def command(self, *arguments: str) -> str:
        """What a command of meshnode's with this node's home printed."""
        return self.host.inside(command, *arguments, "--home", str(self.home))

    def invite(self) -> str:
        """A fresh token."""
        return self.command("invite").strip()

    def ask(self, model: str) -> tuple[str, str]:
        """One short question: the text, and the path that it took. Raises openai.APIError."""
        return self.host.inside(self._ask, model)

    def _ask(self, model: str) -> tuple[str, str]:
        with self.openai() as client:
            raw = client.chat.completions.with_raw_response.create(
                model=model, messages=[{"role": "user", "content": "hello"}]
            )
            return raw.parse().choices[0].message.content or "", raw.headers["x-meshnode-path"]


class Capture:
    """Every frame on every interface of the namespace whose thread makes it."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERY_PROTOCOL))
        self._socket.settimeout(0.1)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def udp_v4(self, port: int) -> list[bytes]:
        """IPv4 frames to a UDP port, from their Ethernet header on; those without options in their IP header."""
        to = port.to_bytes(2, "big")
        return [
            f for f in self.frames if f[12:15] == b"\x08\x00\x45" and f[23] == socket.IPPROTO_UDP and f[36:38] == to
        ]

    def tcp(self, mac: bytes) -> list[bytes]:
        """TCP frames to or from an interface."""
        touched = (frame for frame in self.frames if mac in (frame[:6], frame[6:12]))
        return [frame for frame in touched if _transport(frame) == socket.IPPROTO_TCP]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        while not self._over.is_set():
            with suppress(TimeoutError):
                self.frames.append(self._socket.recv(65_536))


def _transport(frame: bytes) -> int | None:
    """The IP protocol of an Ethernet frame."""
    kind = frame[12:14]
    return frame[23] if kind == b"\x08\x00" else frame[20] if kind == b"\x86\xdd" else None


class Lab:
    """One test's network. Leaving ends what runs in it, then takes it down, however the test went; entering takes
    down what labs of processes that are gone have left. `folder` is where homes are made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack = ExitStack()

    def host(self, name: str) -> Host:
        """A machine that is plugged in nowhere yet."""
        return Host(self, name)

    def segment(self, name: str) -> Segment:
        """A switch with nothing plugged in."""
        return Segment(self, name)

    def __enter__(self) -> Self:
        sweep()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()


def sweep() -> None:
    """Remove namespaces of processes that are gone, and end what still runs in them."""
    for line in ip("netns", "list").splitlines():
        name = line.split()[0] if line.startswith(PREFIX) else ""
        maker = name.removeprefix(PREFIX).partition("-")[0]
        if not maker.isdecimal() or Path(f"/proc/{maker}").exists():
            continue
        for pid in ip("netns", "pids", name).split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        ip("netns", "delete", name)

"""Which network interfaces this machine has, what each is, and why one is not told to others or not spoken on.

`survey` is pure, of what psutil says; `interfaces` and `confined` read the system and are synchronous: a machine with
hundreds of containers makes them slow, so call them in a thread. Not for which addresses are told (addresses.py).
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import Any, Literal

import psutil

from meshnode.observe import log

logger = log.get("mesh")

Kind = Literal["lan", "tunnel", "public", "link-local", "bridge", "loopback", "empty", "down"]
Address = IPv4Interface | IPv6Interface

ORDER: tuple[Kind, ...] = ("lan", "tunnel", "public", "link-local", "bridge", "loopback", "empty", "down")
"""Likeliest to be reached by the next machine first."""

_BRIDGES = (
    *("docker", "podman", "nerdctl", "br-", "veth", "lxc", "lxd", "cni", "cali", "cilium", "flannel", "kube", "weave"),
    *("virbr", "vnet", "vmnet", "vboxnet", "bridge1", "dummy", "ifb"),
    *("vEthernet (WSL", "vEthernet (Default Switch", "vEthernet (nat"),
)
_TUNNELS = (
    *("tailscale", "Tailscale", "zt", "feth", "ZeroTier", "wg", "WireGuard", "wt0", "nebula", "nordlynx", "proton"),
    *("tun", "tap", "utun", "ppp", "ipsec", "gif", "stf", "sit", "wwan", "rmnet"),
)

_LAN = tuple(ipaddress.ip_network(n) for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))
"""RFC 1918 and RFC 4193. Python's `is_private` takes in more, such as documentation and benchmark networks."""

_UNADVERTISED: dict[Kind, str] = {
    "link-local": "it has link-local addresses only, which mean nothing on another wire",
    "bridge": "a bridge of containers or virtual machines: elsewhere its addresses are another machine, or none",
    "loopback": "nobody but this machine reaches it",
    "empty": "it has no address",
    "down": "it is down",
}
_UNSPOKEN: dict[Kind, str] = {
    **_UNADVERTISED,
    "tunnel": "multicast does not pass through tunnels: name a peer there with --peer",
    "public": "its addresses are public: strangers would hear",
}


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface. `addresses` have their networks with them, and are those worth telling, best first.

    `multicast` is whether the system says that it can.
    """

    name: str
    kind: Kind
    addresses: tuple[Address, ...] = ()
    multicast: bool = True

    @property
    def unadvertised(self) -> str:
        """Why its addresses are not told to others; "" when they are."""
        return _UNADVERTISED.get(self.kind, "")

    def unspoken(self, chosen: Sequence[str] = ()) -> str:
        """Why multicast DNS is not spoken on it; "" when it is. `chosen` names are spoken on whatever their kind."""
        if self.kind == "down" or not self.addresses:
            return _UNSPOKEN.get(self.kind) or _UNSPOKEN["empty"]
        if chosen:
            return "" if self.name in chosen else "mesh.mdns_interfaces does not name it"
        if not self.multicast:
            return "it cannot multicast"
        return _UNSPOKEN.get(self.kind, "")


@dataclass(frozen=True, slots=True)
class Facts:
    """What Linux says beyond psutil: bridges without and with a port to a wire, and IPv6 addresses to leave out."""

    bridges: frozenset[str] = frozenset()
    switches: frozenset[str] = frozenset()
    fleeting: frozenset[str] = frozenset()


def interfaces() -> tuple[Interface, ...]:
    """This machine's interfaces now, the likeliest to be reached first; none where the system does not say."""
    try:
        entries, stats = psutil.net_if_addrs(), psutil.net_if_stats()
    except (OSError, psutil.Error) as error:
        # Android lets no program see them.
        logger.debug("this machine's interfaces cannot be read", reason=str(error))
        return ()
    return survey(entries, stats, read_facts(stats))


def survey(entries: Mapping[str, Sequence[Any]], stats: Mapping[str, Any], facts: Facts) -> tuple[Interface, ...]:
    """What psutil's `net_if_addrs` and `net_if_stats` mean."""
    found = [_interface(name, entries[name], stats.get(name), facts) for name in entries]
    return tuple(sorted(found, key=lambda interface: ORDER.index(interface.kind)))


def _interface(name: str, entries: Sequence[Any], stat: Any, facts: Facts) -> Interface:
    flags = str(getattr(stat, "flags", "")).split(",")
    told = [address for entry in entries if (address := _address(entry)) is not None]
    usable = [a for a in told if not a.is_link_local and not a.is_multicast and str(a.ip) not in facts.fleeting]
    kind: Kind
    if name == "lo" or "loopback" in flags or (told and all(a.is_loopback for a in told)):
        kind = "loopback"
    elif stat is None or not stat.isup:
        kind = "down"
    elif name in facts.bridges or (name.startswith(_BRIDGES) and name not in facts.switches):
        kind = "bridge"
    elif not usable:
        kind = "link-local" if told else "empty"
    elif name.startswith(_TUNNELS) or "pointopoint" in flags:
        kind = "tunnel"
    else:
        kind = "lan" if _is_lan(usable) else "public"
    usable.sort(key=lambda a: (a.version, not _private(a)))
    # Windows and old psutil say nothing of multicast: then it is tried.
    return Interface(name, kind, tuple(usable), multicast=flags == [""] or "multicast" in flags)


def _is_lan(usable: Sequence[Address]) -> bool:
    """IPv4 decides where there is any: home networks have public IPv6 addresses beside their private ones."""
    v4 = [a for a in usable if a.version == 4]
    return all(map(_private, v4)) if v4 else any(map(_private, usable))


def _private(address: Address) -> bool:
    return any(address.version == lan.version and address.ip in lan for lan in _LAN)


def _address(entry: Any) -> Address | None:
    """An entry of psutil's as an address with its network; None for hardware addresses and what cannot be read."""
    if entry.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    host = entry.address.partition("%")[0]
    try:
        if entry.family == socket.AF_INET:
            return IPv4Interface(f"{host}/{entry.netmask or 32}")
        # Windows tells no IPv6 netmask; on a LAN it is 64.
        bits = int(ipaddress.IPv6Address(entry.netmask)).bit_count() if entry.netmask else 64
        return IPv6Interface(f"{host}/{bits}")
    except ValueError:
        return None


_TEMPORARY, _DADFAILED, _DEPRECATED, _TENTATIVE = 0x01, 0x08, 0x20, 0x40
"""Flags of linux/if_addr.h."""


def read_facts(names: Mapping[str, Any] | Sequence[str], root: Path = Path("/")) -> Facts:
    """What Linux says beyond psutil; nothing elsewhere."""
    bridges: set[str] = set()
    switches: set[str] = set()
    for name in names:
        place = root / "sys/class/net" / name
        if (place / "bridge").is_dir():
            (switches if _has_wire(place, root) else bridges).add(name)
    return Facts(frozenset(bridges), frozenset(switches), _fleeting(root))


def _has_wire(bridge: Path, root: Path) -> bool:
    """Whether a port of a bridge is a device, or stands on another (a bond, a VLAN): then it is this host's LAN."""
    try:
        ports = [root / "sys/class/net" / port.name for port in (bridge / "brif").iterdir()]
        return any((port / "device").exists() or any(port.glob("lower_*")) for port in ports)
    except OSError:
        return False


def _fleeting(root: Path) -> frozenset[str]:
    """IPv6 addresses that are temporary, deprecated, or not this machine's yet."""
    try:
        lines = (root / "proc/net/if_inet6").read_text().splitlines()
    except OSError:
        return frozenset()
    found = set()
    for line in lines:
        match line.split():
            case [digits, _, _, _, flags, *_] if int(flags, 16) & (_TEMPORARY | _DADFAILED | _DEPRECATED | _TENTATIVE):
                found.add(str(ipaddress.IPv6Address(int(digits, 16))))
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class Confinement:
    """A network that is not the machine's own: in one word, and what it means for a node."""

    word: Literal["container", "wsl"]
    sentence: str


_CONTAINER = Confinement(
    "container",
    "unless it uses the host's network, others reach this node only at ports that are published: say where with "
    "mesh.advertise, or let this node dial out with --peer",
)
_WSL = Confinement(
    "wsl",
    "unless networkingMode is mirrored in .wslconfig, other machines cannot reach this node and multicast stays inside "
    "Windows: let it dial out with --peer, or run meshnode in Windows",
)


def confined(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> Confinement | None:
    """Whether this runs in a container or in WSL, whose addresses other machines often cannot reach."""
    marks = (".dockerenv", "run/.containerenv", "run/systemd/container")
    if any((root / mark).exists() for mark in marks) or "container" in environ or "KUBERNETES_PORT" in environ:
        return _CONTAINER
    try:
        release = (root / "proc/sys/kernel/osrelease").read_text().lower()
    except OSError:
        return None
    return _WSL if "microsoft" in release else None

"""What `doctor` has read: plain values, so that every check can be tried without a machine. Written by gather.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from meshnode.cli.report import Report


class DialledBack(msgspec.Struct, frozen=True):
    """What one peer found at one address of this node, as `POST /mesh/doctor` says it (mesh.dial_back)."""

    peer: str
    address: str = ""
    ok: bool = False
    detail: str = ""
    clock_skew_s: float | None = None


class Asked(msgspec.Struct, frozen=True):
    """The answer of `POST /mesh/doctor`: linked peers, and what they found."""

    peers: int = 0
    dialled_back: tuple[DialledBack, ...] = ()


@dataclass(frozen=True, slots=True)
class File:
    """A secret file or directory of the home. `mode` are its permission bits, `ours` whether this user owns it."""

    path: Path
    mode: int
    ours: bool
    regular: bool = True


@dataclass(frozen=True, slots=True)
class Storage:
    """The home on disk. `damage` are the messages of what could not be read; `free_bytes` None where the system does
    not say."""

    path: Path
    exists: bool = True
    writable: bool = True
    files: tuple[File, ...] = ()
    damage: tuple[str, ...] = ()
    free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Port:
    """An address this node listens on, or would. `holder` is who listens there in words, "" for nobody; `ours` whether
    that is this home's node; `option` is the flag that chooses another."""

    name: str
    address: str
    option: str
    holder: str = ""
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Wire:
    """One network interface. `unadvertised` and `unspoken` say why its addresses are not told and multicast is not
    spoken on it; "" when they are. `group` says why joining 224.0.0.251 failed, "" when it worked or was not tried."""

    name: str
    kind: str
    hosts: tuple[str, ...] = ()
    unadvertised: str = ""
    unspoken: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Network:
    """`listens` is False with --mesh none. `advertised` are the addresses told to others, of the running node where
    there is one; `confined` says what a container or WSL means, "" elsewhere."""

    listens: bool = True
    advertised: tuple[str, ...] = ()
    wires: tuple[Wire, ...] = ()
    mdns: bool = True
    confined: str = ""


@dataclass(frozen=True, slots=True)
class Papers:
    """This node's membership. `until_s` is what is left of its certificate, None where there is none; `revoked` is why
    it is out, None while it is not; `secret` why the psk-tofu secret cannot be used, "" when it can or is not needed.
    """

    trust: str = "ca"
    mesh: str = ""
    until_s: float | None = None
    revoked: str | None = None
    holds_root: bool = False
    generation: int | None = None
    secret: str = ""


@dataclass(frozen=True, slots=True)
class Access:
    """API keys: how many open, and how many do not any more; `beyond` is the API's address where other machines reach
    it, "" where none does; `required`: a key is needed even where there is none."""

    good: int = 0
    ended: int = 0
    beyond: str = ""
    required: bool = False


@dataclass(frozen=True, slots=True)
class EngineAt:
    """An engine. `open_to` is the address that lets every machine in without a key, "" when none does."""

    name: str
    kind: str
    url: str
    state: str
    detail: str = ""
    open_to: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything. `running` and `asked` are None without a node; `asked_fault` says why the peers could not be asked;
    `home` goes into suggested commands where it is not the usual one."""

    storage: Storage
    config_faults: tuple[str, ...] = ()
    running: Report | None = None
    ports: tuple[Port, ...] = ()
    network: Network = Network()
    papers: Papers = Papers()
    access: Access = Access()
    engines: tuple[EngineAt, ...] = ()
    asked: Asked | None = None
    asked_fault: str = ""
    home: Path | None = None

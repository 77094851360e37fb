"""Reads the machine for `doctor`, and asks the node that runs and, through it, its peers. Judges nothing (checks.py).

What cannot be read is left out or told in words: a doctor that falls over helps nobody. Changes nothing, but that the
running node's peers dial it once.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import stat
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from meshnode.cli import holder, place, report, words
from meshnode.cli.daemon import Daemon
from meshnode.cli.doctor import engines, wires
from meshnode.cli.doctor.facts import Access, Asked, Facts, File, Network, Papers, Port, Storage
from meshnode.cli.report import Report
from meshnode.config import Config, load
from meshnode.errors import ConfigError, MeshnodeError, SecretFileError

SECRETS = ("node.key", "mesh.cbor", "mesh.secret", "invites.cbor", "notices.cbor", "pins.cbor", "addresses.cbor",
           "control.secret", "keys.cbor", "incarnation", "run.json")  # fmt: skip
"""What a home holds for this user alone (keep.home)."""


def gather(home: place.Place) -> Facts:
    """Everything that the checks look at. Raises nothing that a broken node could be the reason of."""
    storage = _storage(home.path)
    config, faults = _config(home.path)
    daemon, damage = _running(home)
    seen, asked, fault = _ask(daemon)
    papers, broken = _papers(home.path, config, seen)
    keys, unread = _access(home.path, config, seen)
    storage = dataclasses.replace(storage, damage=tuple(dict.fromkeys((*damage, *broken, *unread))))
    return Facts(
        storage=storage,
        config_faults=faults,
        running=seen,
        ports=_ports(home, config, seen),
        network=_network(config, seen),
        papers=papers,
        access=keys,
        engines=engines.gather(config, seen),
        asked=asked,
        asked_fault=fault,
        home=home.named,
    )


def _storage(path: Path) -> Storage:
    if not path.exists():
        return Storage(path, exists=False, free_bytes=_free_bytes(path))
    found = [path, *(path / name for name in SECRETS)]
    files = tuple(file for one in found if (file := _file(one)) is not None)
    return Storage(path, writable=os.access(path, os.W_OK | os.X_OK), files=files, free_bytes=_free_bytes(path))


def _file(path: Path) -> File | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    whole = stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)
    return File(path, stat.S_IMODE(found.st_mode), found.st_uid == os.geteuid(), whole)


def _free_bytes(path: Path) -> int | None:
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return None


def _config(path: Path) -> tuple[Config, tuple[str, ...]]:
    try:
        return load(path / "config.toml", os.environ), ()
    except ConfigError as error:
        return Config(), tuple(error.faults)


def _running(home: place.Place) -> tuple[Daemon | None, tuple[str, ...]]:
    try:
        return place.running(home), ()
    except SecretFileError as error:
        return None, (str(error),)


def _ask(daemon: Daemon | None) -> tuple[Report | None, Asked | None, str]:
    if daemon is None:
        return None, None, ""
    try:
        seen = report.read(daemon.get("/mesh/status"))
    except MeshnodeError:
        return None, None, ""
    try:
        return seen, msgspec.convert(daemon.post("/mesh/doctor", {}), Asked, strict=False), ""
    except (MeshnodeError, msgspec.ValidationError) as error:
        return seen, None, str(error)


def _papers(path: Path, config: Config, seen: Report | None) -> tuple[Papers, tuple[str, ...]]:
    """The membership as the running node sees it, else as the home has it; and what of the home is damaged."""
    kept, damage = _kept(path, config.mesh.trust)
    if seen is None:
        return kept, damage
    mesh = seen.mesh
    return (
        Papers(
            trust=mesh.trust or kept.trust,
            mesh=mesh.name,
            until_s=words.remaining_s(mesh.member_until, time.time()) if mesh.member_until else kept.until_s,
            revoked=mesh.revoked,
            holds_root=mesh.holds_root,
            generation=mesh.secret_generation,
            secret=kept.secret if mesh.trust == "psk-tofu" else "",
        ),
        damage,
    )


def _access(path: Path, config: Config, seen: Report | None) -> tuple[Access, tuple[str, ...]]:
    """The keys of the home, where the API is, and what of the keys' file is damaged."""
    from meshnode.keep.api_keys import load_keys

    api = seen.api if seen is not None else config.front.api
    host = (urlsplit(api if "://" in api else f"http://{api}").hostname or "").partition("%")[0]
    try:
        beyond = "" if host == "localhost" or ip_address(host).is_loopback else api
    except ValueError:
        # Every interface, or a name of this machine.
        beyond = api
    try:
        records = load_keys(path).records if path.exists() else ()
    except SecretFileError as error:
        return Access(beyond=beyond, required=True), (str(error),)
    now = time.time()
    good = sum(one.state(now) == "good" for one in records)
    return Access(good, len(records) - good, beyond, config.front.require_key), ()


def _kept(path: Path, trust: str) -> tuple[Papers, tuple[str, ...]]:
    """Reads every file of the home, so that what is damaged is found before the next start finds it."""
    from meshnode.identity.certificates import read_membership
    from meshnode.keep.home import Home

    if not (path / "node.key").exists():
        return Papers(trust), ()
    damage: list[str] = []
    found: dict[str, Any] = {}

    def read(what: str, how: Any) -> None:
        try:
            found[what] = how()
        except SecretFileError as error:
            damage.append(str(error))

    read("home", lambda: Home(path))
    if "home" not in found:
        return Papers(trust), tuple(damage)
    home: Home = found["home"]
    read("key", home.node_key)
    if "key" in found:
        read("membership", lambda: home.membership(found["key"]))
    read("pins", home.pins)
    read("invites", home.invites)
    if (path / "control.secret").exists():
        read("control", home.control_secret)
    membership = found.get("membership")
    secret = _secret(home) if trust == "psk-tofu" else ""
    if membership is None:
        return Papers(trust, secret=secret), tuple(damage)
    read("notices", lambda: home.notices(membership.mesh.id))
    until = [read_membership(signed).not_after for signed in membership.chain]
    papers = Papers(
        trust=trust,
        mesh=membership.mesh.name,
        until_s=min(until) - time.time() if until else None,
        holds_root=membership.root_seed is not None,
        generation=membership.mesh.generation,
        secret=secret,
    )
    return papers, tuple(damage)


def _secret(home: Any) -> str:
    """Why the psk-tofu secret cannot be used; "" when it can."""
    try:
        return "" if home.tofu_secret() is not None else f"there is no {home.path / 'mesh.secret'}"
    except SecretFileError as error:
        return str(error)


def _ports(home: place.Place, config: Config, seen: Report | None) -> tuple[Port, ...]:
    api = seen.api.partition("://")[2] if seen is not None else config.front.api
    mesh = seen.mesh.address if seen is not None else config.mesh.listen
    wanted = [("api port", api, "--api")]
    if mesh not in (None, "none"):
        wanted.append(("mesh port", str(mesh), "--mesh"))
    pid = _pid(home.path)
    return tuple(_port(name, address, option, pid, home, seen) for name, address, option in wanted)


def _port(name: str, address: str, option: str, pid: int | None, home: place.Place, seen: Report | None) -> Port:
    number = address.rpartition(":")[2]
    who = holder.find(int(number), [home.path, place.place(None).path]) if number.isdecimal() else None
    if seen is not None:
        # Whoever may not look at processes believes the node, which has answered.
        ours = who is None or who.pid == pid
        return Port(name, address, option, who.text if who is not None else "", ours)
    if who is None and number.isdecimal() and int(number) and wires.answers(address):
        return Port(name, address, option, "a process that this user may not see")
    return Port(name, address, option, who.text if who is not None else "")


def _pid(path: Path) -> int | None:
    try:
        facts = msgspec.json.decode((path / "run.json").read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    pid = facts.get("pid")
    return pid if isinstance(pid, int) else None


def _network(config: Config, seen: Report | None) -> Network:
    section = config.mesh
    listens = seen.mesh.address is not None if seen is not None else section.listen != "none"
    # The node that runs may have been told otherwise by its command line.
    multicast = section.mdns if seen is None or seen.mesh.mdns is None else seen.mesh.mdns
    found, confined = wires.gather(section.mdns_interfaces, multicast=multicast)
    told = seen.mesh.addresses if seen is not None else section.advertise or wires.told(section.listen, found)
    return Network(
        listens=listens,
        advertised=tuple(told) if listens else (),
        wires=tuple(found),
        mdns=multicast,
        confined="" if section.advertise or not listens else confined,
    )

"""Who holds a port on this machine, and what to do about it. For the message of a node that cannot start.

Not for freeing the port. The system may not tell us about other people's processes; then the message says less.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from meshnode.cli import say


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that listens. `home` is set when it is a meshnode whose home is known."""

    pid: int
    name: str
    home: Path | None = None

    @property
    def text(self) -> str:
        """As it is named in a sentence."""
        if self.home is not None:
            return f"the meshnode with home {self.home} (process {self.pid})"
        return f"{self.name} (process {self.pid})"


def advice(address: str, listens: Mapping[str, str], homes: list[Path], home: Path | None) -> str:
    """Who holds `address`, and how to choose another.

    `listens` are the addresses the node wants by their flags, `address` among them; `home` goes into the command.
    """
    who = _at(address, homes)
    held = "is in use by a process that this user may not see" if who is None else f"is in use by {who.text}"
    # What holds one usual port often holds the other: the command must not end at the next busy one.
    busy = [(flag, where) for flag, where in listens.items() if where == address or _at(where, homes)]
    chosen = [word for flag, where in busy for word in (flag, f"{where.rpartition(':')[0]}:0")]
    other = say.command("up", *chosen, home=home)
    lines = [f"{address} {held}", f"  any free port instead:         {other}"]
    if who is not None and who.home is not None:
        lines.append(f"  to see what that node does:    {say.command('status', home=who.home)}")
    return "\n".join(lines)


def _at(address: str, homes: list[Path]) -> Holder | None:
    port = address.rpartition(":")[2]
    return find(int(port), homes) if port.isdecimal() else None


def find(port: int, homes: list[Path]) -> Holder | None:
    """The process that listens on a TCP port, or None when there is none or it is hidden from us."""
    try:
        sockets = psutil.net_connections("tcp")
    except (psutil.Error, OSError):
        return None
    for one in sockets:
        if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid:
            return _holder(one.pid, homes)
    return None


def _holder(pid: int, homes: list[Path]) -> Holder | None:
    try:
        process = psutil.Process(pid)
        name, candidates = process.name(), [*homes, *_named(process)]
    except psutil.Error:
        return None
    return Holder(pid, name, next((home for home in candidates if _runs(home) == pid), None))


def _named(process: psutil.Process) -> list[Path]:
    """Homes that the process was started with."""
    words = process.cmdline()
    found = [after for word, after in itertools.pairwise(words) if word == "--home"]
    found += [word.removeprefix("--home=") for word in words if word.startswith("--home=")]
    try:
        found.append(process.environ().get("MESHNODE_HOME", ""))
        base = Path(process.cwd())
    except psutil.Error:
        base = Path()
    return [base / home for home in found if home]


def _runs(home: Path) -> int | None:
    """The process that says it runs this home."""
    try:
        return int(json.loads((home / "run.json").read_text(encoding="utf-8"))["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None

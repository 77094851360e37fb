"""Which home a command means, and whether a node runs there.

Not for what lies in a home nor for its lock (keep.home).
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from meshnode.cli import say
from meshnode.cli.daemon import Daemon, NotRunning
from meshnode.errors import MeshnodeError
from meshnode.keep.home import Home, default_home

API_KEY = "MESHNODE_API_KEY"
"""Names the key for a node that is asked with `--api`: what stands in arguments is read by every user of a machine."""


@dataclass(frozen=True, slots=True)
class Place:
    """A home's directory; `usual` when it is the one that commands take when nothing is said."""

    path: Path
    usual: bool

    @property
    def named(self) -> Path | None:
        """The home to name in suggested commands: none when it is the usual one."""
        return None if self.usual else self.path


def place(home: Path | None) -> Place:
    """The home that was asked for, else this user's."""
    usual = default_home({})
    path = (home or default_home(os.environ)).expanduser().absolute()
    return Place(path, usual=path == usual)


def running(home: Place) -> Daemon | None:
    """The node that runs in this home, able to use its control routes; None when there is none.

    A home that was never used stays untouched. Raises SecretFileError.
    """
    if not (home.path / "run.json").exists():
        return None
    opened = Home(home.path)
    facts = opened.read_run()
    match facts:
        case {"pid": int(pid), "api": str(api)} if psutil.pid_exists(pid):
            daemon = Daemon(api, opened.control_secret())
            return daemon if daemon.answers() else None
        case _:
            # Left behind by a node that was killed.
            return None


def find(home: Path | None, api: str | None) -> Daemon:
    """The node to ask: at `api` when that is given, else the one of the home. Another's is shown the API key of the
    environment where it asks for one. Raises NotRunning."""
    wanted = place(home)
    if api is not None:
        url = api.rstrip("/").removesuffix("/v1")
        with contextlib.suppress(MeshnodeError):
            own = running(wanted)
            if own is not None and own.api == url:
                return own
        return Daemon(url, os.environ.get(API_KEY, ""))
    daemon = running(wanted)
    if daemon is None:
        start = say.command("up", home=wanted.named)
        raise NotRunning(f"no meshnode runs in {wanted.path}; start it with: {start}")
    return daemon

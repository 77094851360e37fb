"""`pause` and `resume`: whether this machine's engines take requests. The running node does it.

Not for settings that hold anyway: `sharing` in config.toml.
"""

from __future__ import annotations

from typing import Any

from meshnode.cli import report, say, words
from meshnode.cli.daemon import Daemon, fields


def pause(daemon: Daemon, *, foreign_only: bool, as_json: bool) -> None:
    """Take nobody's requests, or only the owner's."""
    _show(daemon.post("/mesh/pause", {"foreign_only": foreign_only}), as_json)


def resume(daemon: Daemon, *, as_json: bool) -> None:
    """Lift a pause."""
    _show(daemon.post("/mesh/resume", {}), as_json)


def _show(answer: Any, as_json: bool) -> None:
    done = fields(answer, "takes")
    if as_json:
        return say.write_json(done)
    now = report.read({"node": {"sharing": done}}).node.sharing
    return print(say.clean(f"this machine takes {words.sharing(now)}"))

"""The process a node lives in: `up` becomes a fresh interpreter without what only the command line needs.

Parsing options costs 5 MB that a node would carry for weeks. The launch travels in the environment (it holds no
secret), the arguments stay readable in `ps`. Counterpart: `meshnode.__main__`, which calls `serve` when it is there.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from meshnode.cli.up import Launch, up
from meshnode.errors import MeshnodeError

VARIABLE = "MESHNODE_LAUNCH"


def become(launch: Launch) -> int:
    """Replace this process by one that runs the launch. Does not return."""
    told = {
        "home": str(launch.home) if launch.home is not None else None,
        "flags": launch.flags,
        "json": launch.json,
        "level": launch.level,
        "hello": launch.hello,
    }
    sys.stdout.flush()
    sys.stderr.flush()
    environment = {**os.environ, VARIABLE: json.dumps(told)}
    os.execve(sys.executable, [sys.executable, "-m", "meshnode", *sys.argv[1:]], environment)  # noqa: S606 - ourselves


def serve(text: str) -> int:
    """Run what `become` told; returns the exit code."""
    from meshnode.cli import say

    told = json.loads(text)
    told["home"] = Path(told["home"]) if told["home"] is not None else None
    launch = Launch(**told)
    try:
        return up(launch)
    except MeshnodeError as error:
        say.write_error(error, launch.json)
        return say.FAILED
    except KeyboardInterrupt:
        return say.INTERRUPTED
    except BrokenPipeError:
        say.discard(sys.stdout)
        return say.FAILED

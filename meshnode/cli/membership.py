"""`invite` and `join`: one line carries a machine into the mesh.

A running node is asked over its control routes; without one, `join` prepares the home itself. Not for making or
checking invites (identity, mesh.join).
"""

from __future__ import annotations

import os
import sys
from typing import Any

from meshnode.cli import place, say, words
from meshnode.cli.daemon import Daemon
from meshnode.config import load
from meshnode.errors import DecodeError, InviteRefused


def invite(daemon: Daemon, expires_s: float, as_json: bool) -> None:
    """Print a new invite: alone for a pipe, with what to do with it for people."""
    made = _fields(daemon.post("/mesh/invite", {"expires_s": expires_s}), "token")
    token = str(made["token"])
    if as_json:
        say.write_json(made)
    elif sys.stdout.isatty():
        lifetime = words.age(float(made.get("expires_s", expires_s)))
        print(f"On the machine that is to join, within {lifetime}:\n\n  meshnode join {token}\n")
        print("The line is a key to this mesh: hand it over privately. `meshnode join -` reads it from standard input.")
    else:
        print(token)


def join(home: place.Place, token: str, as_json: bool) -> None:
    """Join the mesh that an invite names, with this home's running node or before its first start."""
    token = (sys.stdin.read() if token == "-" else token).strip()  # noqa: S105 - a marker, not a secret
    if not token:
        raise InviteRefused("there is no invite; `meshnode invite` on a machine of the mesh prints one")
    daemon = place.running(home)
    if daemon is not None:
        joined = _fields(daemon.post("/mesh/join", {"token": token}), "mesh")
        mesh, nodes = str(joined["mesh"]), [str(node) for node in joined.get("nodes") or ()]
    else:
        mesh, nodes = _join_alone(home, token)
    if as_json:
        return say.write_json({"mesh": mesh, "nodes": nodes, "running": daemon is not None})
    met = f" with {words.listed(nodes, most=8)}" if nodes else ""
    print(say.clean(f'joined mesh "{mesh}"{met}'))
    following = ("models",) if daemon is not None else ("up",)
    return print(f"now: {say.command(*following, home=home.named)}")


def _join_alone(home: place.Place, token: str) -> tuple[str, list[str]]:
    import trio

    from meshnode.keep.home import Home
    from meshnode.mesh.join import join_mesh
    from meshnode.observe import log

    # What goes wrong is told by the error; log lines would mix with what other programs read.
    log.configure("text", "error", sys.stderr)
    config = load(home.path / "config.toml", os.environ)
    summary = trio.run(join_mesh, Home(home.path), token, config)
    return summary.mesh_name, list(summary.node_names)


def _fields(answer: Any, needed: str) -> dict[str, Any]:
    if not isinstance(answer, dict) or needed not in answer:
        raise DecodeError(f"the node's answer has no {needed}; is it another version of meshnode?")
    return answer

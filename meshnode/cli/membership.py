"""`invite`, `join` and `leave`: one line carries a machine into the mesh, one verb takes it out.

A running node is asked over its control routes; without one, `join` and `leave` work on the home itself. Not for
making or checking invites (identity, mesh.join).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from meshnode.cli import place, qr, say, words
from meshnode.cli.daemon import Daemon, fields
from meshnode.config import load
from meshnode.errors import IdentityError, InviteRefused


@dataclass(frozen=True, slots=True)
class Wish:
    """What an invite shall give. No roles: all that the inviting node can give."""

    expires_s: float
    roles: tuple[str, ...] = ()
    owner: str = ""
    root: bool = False


def invite(daemon: Daemon, wish: Wish, *, as_json: bool, qr: bool = True) -> None:
    """Print a new invite: alone for a pipe, with what to do with it for people."""
    asked = {"expires_s": wish.expires_s, "roles": wish.roles or None, "owner": wish.owner, "root": wish.root}
    made = fields(daemon.post("/mesh/invite", asked), "token")
    token = str(made["token"])
    if as_json:
        say.write_json(made)
    elif sys.stdout.isatty():
        _explain(token, wish, made.get("expires_s", wish.expires_s), made.get("roles") or wish.roles, qr)
    else:
        print(token)


def _explain(token: str, wish: Wish, lifetime_s: float, roles: Sequence[str], with_qr: bool) -> None:
    until = time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time() + lifetime_s))
    print(f"On the machine that is to join, once, within {words.age(lifetime_s)} (until {until}):\n")
    print(f"  meshnode join {token}\n")
    if with_qr:
        print(qr.drawn(token))
    if roles:
        print(f"It may: {words.roles(roles)}." + (say.clean(f" Owner: {wish.owner}.", keep="") if wish.owner else ""))
    if wish.root:
        print("It gets the root of the mesh too: it can do then whatever this machine can.")
    print("The line is a key to this mesh: hand it over privately. `meshnode join -` reads it from standard input.")


def join(home: place.Place, token: str, as_json: bool) -> None:
    """Join the mesh that an invite names, with this home's running node or before its first start."""
    token = (sys.stdin.read() if token == "-" else token).strip()  # noqa: S105 - a marker, not a secret
    if not token:
        raise InviteRefused("there is no invite; `meshnode invite` on a machine of the mesh prints one")
    daemon = place.running(home)
    if daemon is not None:
        joined = fields(daemon.post("/mesh/join", {"token": token}), "mesh")
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


def leave(home: place.Place, *, force: bool, as_json: bool) -> None:
    """Leave the mesh, with this home's running node or without one; says which was left and what is next."""
    daemon = place.running(home)
    if daemon is not None:
        told = fields(daemon.post("/mesh/leave", {"force": force}), "left")
        left, now = str(told["left"]), str(told.get("mesh", ""))
    else:
        left, now = _leave_alone(home, force), ""
    if as_json:
        return say.write_json({"left": left, "mesh": now or None, "running": daemon is not None})
    print(say.clean(f'left mesh "{left}": this node is no member of it any more'))
    if now:
        print(say.clean(f'it is alone in a private mesh, "{now}", now'))
    else:
        print("it begins a private mesh at its next start")
    return print(f"to join another: {say.command('join', 'TOKEN', home=home.named)}")


def _leave_alone(home: place.Place, force: bool) -> str:
    from meshnode.keep.home import Home
    from meshnode.mesh.join import has_others

    if not (home.path / "mesh.cbor").exists():
        secret = home.path / "mesh.secret"
        if secret.exists():
            raise IdentityError(f"a node leaves a psk-tofu mesh by giving up its secret: remove {secret}")
        raise IdentityError(f"{home.path} is in no mesh: there is nothing to leave")
    opened = Home(home.path)
    with opened:
        membership = opened.membership(opened.node_key())
        assert membership is not None
        name = membership.mesh.name
        # Nobody can be asked now.
        if membership.root_seed is not None and not force and has_others(opened, membership):
            raise IdentityError(
                f"this node holds the root of the mesh {name!r}, which has other members: without the root nobody can "
                "give the role invite or revoke those who have it. Hand it to another machine first "
                "(`meshnode invite --root`), or leave with --force"
            )
        opened.leave_mesh()
    return name

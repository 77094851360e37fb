"""`mesh show`, `mesh rotate` and `mesh secret`: the mesh itself, seen from this node.

Not for peers (peers.py) nor for invites (membership.py). The secret of psk-tofu is a file of the home, so it is read
and kept without asking a node; it never stands in an argument.
"""

from __future__ import annotations

import getpass
import os
import sys
import time
from typing import Any

from meshnode.cli import place, report, say, words
from meshnode.cli.daemon import Daemon, fields
from meshnode.errors import IdentityError


def show(home: place.Place, as_json: bool) -> None:
    """The mesh of a running node, or of a home without one."""
    daemon = place.running(home)
    found = _of_node(daemon) if daemon is not None else _of_home(home)
    if as_json:
        return say.write_json(found)
    for label, text in _lines(found):
        print(say.clean(words.line(label, text), keep=""))
    return None


def _of_node(daemon: Daemon) -> dict[str, Any]:
    document = daemon.get("/mesh/status")
    seen = report.read(document)
    members = [{"id": seen.node.id, "name": seen.node.name}, *({"id": p.id, "name": p.name} for p in seen.peers)]
    kept = {word: value for word, value in document.get("mesh", {}).items() if word not in ("address", "addresses")}
    return {**kept, "node": seen.node.id, "members": members, "running": True}


def _of_home(home: place.Place) -> dict[str, Any]:
    from meshnode.config import load
    from meshnode.identity import tofu_mesh
    from meshnode.identity.certificates import read_membership
    from meshnode.keep.home import Home
    from meshnode.model.ids import NodeId

    trust = load(home.path / "config.toml", os.environ).mesh.trust
    facts: dict[str, Any] = {"id": None, "name": None, "trust": trust, "node": None, "members": [], "running": False}
    if not (home.path / "node.key").exists():
        return facts
    opened = Home(home.path)
    key = opened.node_key()
    facts["node"] = key.id.text
    if trust == "psk-tofu":
        text = opened.tofu_secret()
        made = tofu_mesh(text) if text is not None else None
        return facts if made is None else facts | {"id": NodeId(made.id).text, "name": made.name, "holds_root": None}
    membership = opened.membership(key)
    if membership is None:
        return facts
    certificate = read_membership(membership.chain[0]) if membership.chain else None
    until = None if certificate is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(certificate.not_after))
    return facts | {
        "id": NodeId(membership.mesh.id).text,
        "name": membership.mesh.name,
        "holds_root": membership.root_seed is not None,
        "roles": [] if certificate is None else [str(role) for role in certificate.roles],
        "owner": "" if certificate is None else certificate.owner,
        "member_until": until,
    }


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    if found["id"] is None:
        first = say.command("mesh", "secret") if found["trust"] == "psk-tofu" else say.command("up")
        return [("mesh", f"none yet: begin with {first}"), ("trust", words.trust_mode(found["trust"]))]
    members = [f"{m['name']}" + (" (this node)" if m["id"] == found["node"] else "") for m in found["members"]]
    lines = [
        ("mesh", f"{found['name']}    {found['id']}"),
        ("trust", words.trust_mode(found["trust"])),
        ("node", str(found["node"])),
        ("members", f"{len(members)}: {words.listed(members, most=16)}" if members else "not known: no node runs here"),
    ]
    if found["trust"] != "psk-tofu":
        lines.append(("root", "held by this node" if found.get("holds_root") else "not held by this node"))
    if found.get("secret_generation") is not None:
        lines.append(("secret", f"generation {found['secret_generation']}"))
    own = ", ".join(found.get("roles") or ()) or "no roles"
    own += f"; owner {found['owner']}" if found.get("owner") else ""
    own += f"; member until {found['member_until']}" if found.get("member_until") else ""
    lines.append(("this node", "REVOKED: no member any more" if found.get("revoked") else own))
    return lines


def rotate(daemon: Daemon, as_json: bool) -> None:
    """Have the node make the network secret anew."""
    done = fields(daemon.post("/mesh/rotate", {}), "generation")
    if as_json:
        return say.write_json(done)
    print(say.clean(f'the network secret of mesh "{done.get("mesh", "")}" is new (generation {done["generation"]})'))
    print("members get it by themselves; the old one opens doors for 24 h more, for those who are away now")
    return print("invites that were printed before stay good")


def secret(home: place.Place, source: str | None, as_json: bool) -> None:
    """Print the home's psk-tofu secret, made when there is none; with "-" keep the one on standard input. Raises
    IdentityError, SecretFileError."""
    from meshnode.keep.home import Home

    if source not in (None, "-"):
        raise IdentityError(
            "a secret does not belong on a command line: `ps` shows it to everybody and the shell keeps it. "
            f"Pipe it in: {say.command('mesh', 'secret', '-', home=home.named)} < FILE"
        )
    opened, file = Home(home.path), home.path / "mesh.secret"
    known = opened.tofu_secret()
    if source == "-":
        given = _read()
        if known is not None and given != known:
            raise IdentityError(f"this home has the secret of another mesh already: move {file} away to take this one")
        if known is None:
            opened.save_tofu_secret(given)
        return _kept(home, as_json)
    text = known if known is not None else opened.make_tofu_secret()
    if as_json:
        return say.write_json({"secret": text, "file": str(file), "made": known is None})
    print(text)
    if sys.stdout.isatty():
        print(
            "Whoever has this line is a member, and it is on your screen now: pipe it to the other machine instead,\n"
            f"  {say.command('mesh', 'secret', home=home.named)} | ssh OTHER meshnode mesh secret -\n"
            f"and start both with: {say.command('up', '--trust', 'psk-tofu', home=home.named)}",
            file=sys.stderr,
        )
    return None


def _read() -> str:
    """The secret on standard input; a terminal does not show it."""
    text = getpass.getpass("Secret (it is not shown): ") if sys.stdin.isatty() else sys.stdin.read(4096)
    if not text.strip():
        raise IdentityError("there is no secret on standard input; `meshnode mesh secret` prints another machine's")
    return "".join(text.split())


def _kept(home: place.Place, as_json: bool) -> None:
    runs = place.running(home) is not None
    if as_json:
        return say.write_json({"file": str(home.path / "mesh.secret"), "running": runs})
    print(f"the secret is kept in {home.path / 'mesh.secret'}, for this user alone")
    following = say.command("up", "--trust", "psk-tofu", home=home.named)
    return print(f"the node that runs uses it after a restart: {following}" if runs else f"now: {following}")

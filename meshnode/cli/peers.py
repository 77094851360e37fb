"""`peers` and what may be done about one: trust, revoke, forget. The running node does it and names the node.

A terminal is asked before a node is revoked, and told what follows. Not for deciding who is meant (front.naming).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from meshnode.cli import report, say, words
from meshnode.cli.daemon import Daemon, fields
from meshnode.cli.report import PeerReport, Report
from meshnode.errors import MeshnodeError

STATUS = "/mesh/status"


@dataclass(frozen=True, slots=True)
class Revoking:
    """Whom, and how. `node` as it was typed."""

    node: str
    keep_invited: bool = False
    sure: bool = False


class NotConfirmed(MeshnodeError):
    """The person at the terminal said no."""


def show(daemon: Daemon, as_json: bool) -> None:
    """The other nodes: ids, paths, who they are."""
    document = daemon.get(STATUS)
    seen = report.read(document)
    if as_json:
        return say.write_json(document.get("peers", []))
    columns = ("NAME", "ID", "PATH", "RTT", "ADDRESS", "ROLES", "OWNER", "PINNED", "VERSION", "SEEN")
    return say.write_table(columns, [_row(peer) for peer in seen.peers], words.no_peers(seen.mesh))


def trust(daemon: Daemon, node: str, name: str, as_json: bool) -> None:
    """Pin a node."""
    done = fields(daemon.post("/mesh/peers/trust", {"node": node, "name": name}), "node")
    if as_json:
        return say.write_json(done)
    _say(f"{_named(done)} is pinned" + ("" if done.get("changed", True) else " already"))
    _say(f"its whole id is {done['node']}: compare it with what `meshnode mesh show` prints there")
    if done.get("trust") == "ca":
        _say("it may now be given sensitive requests; who is a member is judged by pins with --trust pinned alone")
    return None


def forget(daemon: Daemon, node: str, as_json: bool) -> None:
    """Drop what the node keeps of another."""
    done = fields(daemon.post("/mesh/peers/forget", {"node": node}), "node")
    if as_json:
        return say.write_json(done)
    if not done.get("changed", True):
        return _say(f"nothing is kept of {_named(done)}")
    _say(f"{_named(done)} is forgotten: its pins, its bar and where it was reached")
    return _say("it is listed again as soon as it says something new; a revocation stays")


def revoke(daemon: Daemon, wish: Revoking, as_json: bool) -> None:
    """Shut a node out of the mesh. Raises NotConfirmed when the terminal says no."""
    node = wish.node
    if sys.stdin.isatty() and not wish.sure:
        seen = report.read(daemon.get(STATUS))
        meant = [peer for peer in seen.peers if node in (peer.name, peer.short, peer.id)]
        # What is asked about is what is revoked, though another node takes the name meanwhile.
        node = meant[0].id if len(meant) == 1 else node
        _confirm(wish, seen, meant)
    done = fields(daemon.post("/mesh/peers/revoke", {"node": node, "keep_invited": wish.keep_invited}), "node")
    if as_json:
        return say.write_json(done)
    return _tell(done)


def _confirm(wish: Revoking, seen: Report, meant: list[PeerReport]) -> None:
    if len(meant) > 1:
        # The node refuses it, with the ids.
        return
    who = f"{meant[0].name} ({meant[0].short})" if meant else wish.node
    local = seen.mesh.trust == "psk-tofu"
    lines = [f'Revoke {who} from mesh "{seen.mesh.name}"?']
    if local:
        lines.append("  Only this node bars it: there are no certificates to revoke. The others do not hear of it.")
    else:
        lines.append("  It is out for ever: only a new identity and a new invite bring that machine back.")
        lines += _followers(wish, seen, meant)
        lines.append("  Its links close at once, and all other members get a new network secret.")
    print(say.clean("\n".join(lines)), file=sys.stderr)
    print("Revoke it? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise NotConfirmed("nothing was changed")


def _followers(wish: Revoking, seen: Report, meant: list[PeerReport]) -> list[str]:
    invited = [peer.name for peer in seen.peers if meant and peer.invited_by == meant[0].id]
    if not invited:
        return []
    names = words.listed(invited, most=16)
    if wish.keep_invited:
        return [f"  Those it invited stay: {names}."]
    return [f"  Those it invited go with it: {names} (--keep-invited lets them stay)."]


def _tell(done: dict[str, Any]) -> None:
    if done.get("local_only"):
        _say(f"{_named(done)} is barred by this node alone: the others of a psk-tofu mesh do not hear of it")
        return _say("to shut it out everywhere: a new secret on every other machine (move the old mesh.secret away)")
    _say(f"{_named(done)} is revoked: out of the mesh for ever")
    if done.get("also"):
        _say(f"out with it, invited by it: {words.listed(done['also'], most=16)}")
    _say("its link was closed" if done.get("dropped") else "it was not linked here: its neighbours close their links")
    return _say(f"the network secret is new (generation {done.get('generation', '?')}); members get it by themselves")


def _named(done: dict[str, Any]) -> str:
    name, short = done.get("name") or "", done.get("short") or done["node"]
    return f"{name} ({short})" if name and name != short else str(short)


def _row(peer: PeerReport) -> tuple[str, ...]:
    return (
        peer.name,
        peer.short,
        words.path(peer),
        words.milliseconds(peer.rtt_ms),
        peer.address or ", ".join(peer.addresses) or "-",
        ", ".join(peer.roles) or "-",
        peer.owner or "-",
        "yes" if peer.pinned else "-",
        peer.version,
        words.ago(peer.last_seen_s),
    )


def _say(text: str) -> None:
    print(say.clean(text, keep=""))

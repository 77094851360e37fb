"""The listings: `models`, `ps`, `status`. Each asks the node once and shows a part of its report.

With `--json` the node's own words are printed, unchanged. Not for `peers`, which may be told apart
and acted on (peers.py), nor for deciding anything: what is shown is decided there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from meshnode.cli import report, say, words
from meshnode.cli.daemon import Daemon
from meshnode.cli.report import CloudReport, EngineReport, ModelReport, PeerReport, Report

STATUS = "/mesh/status"


def models(daemon: Daemon, as_json: bool) -> None:
    """Every model of the mesh and the nodes that have it."""
    document = daemon.get(STATUS)
    if as_json:
        return say.write_json(_part(document, "models"))
    rows = [_model(model) for model in report.read(document).models]
    nothing = "no models yet: start an engine on this machine, or join a mesh that has some"
    return say.write_table(("MODEL", "CONTEXT", "FEATURES", "NODES", "SLOTS"), rows, nothing)


def processes(daemon: Daemon, as_json: bool) -> None:
    """The engines of this node and the requests that run."""
    document = daemon.get(STATUS)
    if as_json:
        return say.write_json({"engines": _part(document, "engines"), "waiting": _part(document, "waiting"),
                               "requests": _part(document, "requests")})  # fmt: skip
    seen = report.read(document)
    nothing = "no engines on this node: requests go to its peers"
    say.write_table(
        ("ENGINE", "STATE", "MODELS", "BUSY", "SLOTS", "QUEUED"), [_engine(one) for one in seen.engines], nothing
    )
    if seen.waiting:
        print()
        rows = [(one.engine, str(one.position), one.tier, one.owner, words.age(one.age_s)) for one in seen.waiting]
        say.write_table(("WAITING FOR", "POSITION", "TIER", "OWNER", "SINCE"), rows, "")
        print()
    print(_requests(seen))
    return None


def status(daemon: Daemon, as_json: bool) -> None:
    """This node, then one line a peer."""
    document = daemon.get(STATUS)
    if as_json:
        return say.write_json(document)
    seen = report.read(document)
    for text in _facts(seen):
        print(say.clean(text))
    columns = ("PEER", "PATH", "RTT", "MODELS", "QUEUE", "OWNER", "POSTURE", "SEEN")
    print()
    return say.write_table(columns, [_peer(peer) for peer in seen.peers], words.no_peers(seen.mesh))


def _facts(seen: Report) -> Sequence[str]:
    mesh = seen.mesh
    advertised = f", advertised as {', '.join(mesh.addresses)}" if mesh.addresses else ""
    cloud = [words.line("cloud", _cloud(seen.cloud))] if seen.cloud is not None else []
    return (
        words.headline(seen),
        words.line("api", f"{seen.api}/v1"),
        words.line("mesh", f"{mesh.address or 'dials out only'}{advertised}"),
        words.line("trust", words.trust(mesh, time.time())),
        words.line("gpu", words.machine(seen.hardware)),
        words.line("engines", words.engines(seen.engines)),
        *cloud,
        words.line("sharing", words.sharing(seen.node.sharing)),
        words.line("requests", f"{_requests(seen)}; up {words.age(seen.node.uptime_s)}"),
    )


def _cloud(found: CloudReport) -> str:
    if not found.budget:
        return f"{', '.join(found.providers)}; asked for nothing until cloud.budget is set"
    return f"{', '.join(found.providers)}; {found.left:.2f} of {found.budget:.2f} left today"


def _requests(seen: Report) -> str:
    now = seen.requests
    peers = f", {now.for_peers} for peers" if now.for_peers else ""
    elsewhere = f", {now.queued_elsewhere} queued at other nodes" if now.queued_elsewhere else ""
    return f"{now.running} running{peers}, {now.queued} queued{elsewhere}, {now.answered} answered, {now.failed} failed"


def _model(model: ModelReport) -> Sequence[str]:
    holders = ", ".join(node.name if node.loaded else f"{node.name} (not loaded)" for node in model.nodes)
    slots = sum(node.slots for node in model.nodes)
    return (model.name, str(model.context or "-"), ", ".join(model.features), holders, str(slots))


def _engine(one: EngineReport) -> Sequence[str]:
    state = f"{one.state}: {one.detail}" if one.detail else one.state
    return (one.name, state, words.listed(one.models, most=3), str(one.busy), str(one.slots), str(one.queued))


def _peer(peer: PeerReport) -> Sequence[str]:
    return (
        f"{peer.name} ({peer.short})",
        words.path(peer),
        words.milliseconds(peer.rtt_ms),
        words.listed(peer.models, most=3),
        "-" if peer.queue is None else str(peer.queue),
        peer.owner or "-",
        peer.posture or "-",
        words.ago(peer.last_seen_s),
    )


def _part(document: Any, name: str) -> Any:
    report.read(document)
    return document.get(name, [])

"""Turns a node's report into short words: sizes, times, one line of facts each. No I/O.

Used by the banner of `up` and by `status`, which must not say the same thing in two ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

from meshnode.cli.report import EngineReport, HardwareReport, MeshReport, ModelReport, PeerReport, Report, SharingReport

LABEL_WIDTH = 10

TAKES = {"all": "everybody's requests", "own": "only the owner's requests", "none": "no requests"}

ROLES = {
    "serve": "be given jobs (serve)",
    "relay": "pass jobs on (relay)",
    "client": "have its own jobs done (client)",
    "invite": "invite, renew and revoke others (invite)",
}
TRUST = {
    "ca": "ca: whoever has a certificate of this mesh",
    "pinned": "pinned: of those with a certificate of this mesh, only nodes that are pinned",
    "psk-tofu": "psk-tofu: whoever has the mesh secret; each name stays with the key first seen",
}
REVOKED_FIX = "`meshnode leave` frees it for another mesh; this one takes the machine only with a new home (--home)"
SOON_S = 7 * 86_400
"""Certificates live 30 days and are renewed at half of that: one that ends in a week has not been."""


def line(label: str, text: str) -> str:
    """One line of the banner."""
    return f" {label.ljust(LABEL_WIDTH)}{text}"


def headline(report: Report) -> str:
    """Who this node is."""
    node, mesh = report.node, report.mesh
    size = "only this node yet" if mesh.nodes <= 1 else f"{mesh.nodes} nodes"
    leaving = " · draining" if node.draining else ""
    return f' meshnode {node.version} · node "{node.name}" ({node.short}) · mesh "{mesh.name}" ({size}){leaving}'


def machine(hardware: HardwareReport) -> str:
    """What the node can compute on."""
    gpus = [f"{gpu.name} {size(gpu.memory_bytes)}, {size(gpu.free_bytes)} free" for gpu in hardware.gpus]
    memory = f"{size(hardware.memory_bytes)} memory, {size(hardware.free_bytes)} free"
    return " · ".join(gpus) if gpus else f"none found; {memory}"


def engine(found: EngineReport) -> str:
    """One engine: where it is, what it offers or why it does not."""
    port = urlsplit(found.url).port if found.url else None
    where = f"{found.name} @{port}" if port and _is_bare(found) else found.name
    if found.state == "ready":
        return f"{where} {listed(found.models, most=3)}"
    share = "" if found.progress is None else f" {found.progress.share:.0%}"
    detail = f" ({found.detail})" if found.detail else ""
    return f"{where} {found.state}{share}{detail}"


def _is_bare(found: EngineReport) -> bool:
    """Whether the name lacks a place; the embedded engine's is its own affair."""
    return "@" not in found.name and found.name != found.url and found.kind != "embedded"


def engines(found: Iterable[EngineReport]) -> str:
    """All engines in one line."""
    return " · ".join(map(engine, found)) or "none"


def path(peer: PeerReport) -> str:
    """How a peer is reached: direct, or through whom, every one on the way."""
    between = " > ".join(peer.path[1:-1]) or peer.via
    return f"{peer.state} via {between}" if between else peer.state


def roles(given: Iterable[str]) -> str:
    """What a node with these roles may do."""
    shown = set(given)
    return ", ".join(text for role, text in ROLES.items() if role in shown) or "nothing"


def trust_mode(mode: str) -> str:
    """Who is believed."""
    return TRUST.get(mode, mode or "not said")


def no_peers(mesh: MeshReport) -> str:
    """What to do about a mesh of one."""
    return f"no peers yet: `meshnode {'mesh secret' if mesh.trust == 'psk-tofu' else 'invite'}` adds a machine"


def trust(mesh: MeshReport, now: float) -> str:
    """Who is believed, and whether this node still is; `now` in wall-clock seconds."""
    if mesh.revoked:
        return f"this node has been revoked ({mesh.revoked}): no member speaks to it. {REVOKED_FIX}"
    left_s = remaining_s(mesh.member_until, now)
    if left_s is None or left_s >= SOON_S:
        return trust_mode(mesh.trust)
    ends = f"ends in {age(left_s)}" if left_s > 0 else "has ended"
    return f"{trust_mode(mesh.trust)}; this node's certificate {ends}: a new invite renews it"


def remaining_s(until: str | None, now: float) -> float | None:
    """Seconds until an ISO 8601 time (UTC where it says no zone); None where there is none."""
    if until is None:
        return None
    try:
        end = datetime.fromisoformat(until)
    except ValueError:
        return None
    return (end if end.tzinfo is not None else end.replace(tzinfo=UTC)).timestamp() - now


def sharing(found: SharingReport) -> str:
    """Whose requests the machine takes, and why not everybody's."""
    why = ["paused: `meshnode resume` lifts it"] if found.paused else []
    why += [] if found.foreign else ["sharing.foreign is off"]
    why += [f"schedule {', '.join(found.schedule)}"] if found.schedule else []
    kept = f"; {found.reserved_slots} slot{'s' * (found.reserved_slots != 1)} of each engine kept for the owner"
    return (
        TAKES.get(found.takes, found.takes)
        + (f" ({'; '.join(why)})" if why else "")
        + kept * bool(found.reserved_slots and found.takes == "all")
    )


def listed(names: Iterable[str], most: int) -> str:
    """The first names and how many more there are."""
    shown = list(names)
    more = f" +{len(shown) - most}" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more if shown else "no models"


def bar(share: float, width: int = 24) -> str:
    """How much of a download is done."""
    full = round(max(0.0, min(share, 1.0)) * width)
    return f"{'▓' * full}{'░' * (width - full)} {share:4.0%}"


def size(count: int) -> str:
    """Bytes in the unit people buy memory in (2^30 or 2^20)."""
    return f"{count / 2**30:.0f} GB" if count >= 2**30 else f"{count / 2**20:.0f} MB"


def age(seconds: float | None) -> str:
    """A time span, coarse."""
    if seconds is None:
        return "-"
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def ago(seconds: float | None) -> str:
    """When somebody was last heard of."""
    return "-" if seconds is None else f"{age(seconds)} ago"


def duration_s(text: str, most_s: float = 86_400) -> float:
    """Read `90s`, `30m`, `24h`, `1d` or plain seconds, `most_s` at most. Raises ValueError."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    unit = units.get(text[-1:], 0)
    seconds = float(text[:-1]) * unit if unit else float(text)
    if not 1 <= seconds <= most_s:
        raise ValueError(f"{text}: between one second and {age(most_s)}")
    return seconds


def milliseconds(value: float | None) -> str:
    """A round trip."""
    return "-" if value is None else f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


def tenth(found: EngineReport) -> str:
    """Changes when an engine's state does, or its download by a tenth."""
    return f"{found.name} {found.state} {found.detail if found.progress is None else int(found.progress.share * 10)}"


def first_model(models: Sequence[ModelReport]) -> ModelReport:
    """The one to suggest: loaded somewhere and able to chat, else any."""
    return max(models, key=lambda model: ("chat" in model.features, any(node.loaded for node in model.nodes)))

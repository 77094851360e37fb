"""What `GET /mesh/status` says, as types: the part of it that people are shown.

Unknown fields are ignored and missing ones have defaults, so that a command of one version reads a node of another.
Not for `--json`, which prints the document as it came. The writer is presence.py.
"""

from __future__ import annotations

from typing import Any

import msgspec

from meshnode.errors import DecodeError


class SharingReport(msgspec.Struct, frozen=True):
    """`takes` and `paused` are all, own or none; `paused` is None while nobody's hand holds anything up."""

    takes: str = "all"
    paused: str | None = None
    foreign: bool = True
    schedule: tuple[str, ...] = ()
    reserved_slots: int = 0


class NodeReport(msgspec.Struct, frozen=True):
    id: str = ""
    short: str = ""
    name: str = ""
    version: str = ""
    uptime_s: float = 0
    draining: bool = False
    owner: str = ""
    sharing: SharingReport = SharingReport()


class MeshReport(msgspec.Struct, frozen=True):
    """`member_until` is ISO 8601, None where no certificate ends; `revoked` says why this node is out, None while it is
    not."""

    id: str = ""
    name: str = ""
    trust: str = ""
    address: str | None = None
    addresses: tuple[str, ...] = ()
    nodes: int = 1
    mdns: bool | None = None
    roles: tuple[str, ...] = ()
    owner: str = ""
    member_until: str | None = None
    may_invite: bool = False
    holds_root: bool = False
    secret_generation: int = 0
    revoked: str | None = None


class GpuReport(msgspec.Struct, frozen=True):
    name: str = ""
    memory_bytes: int = 0
    free_bytes: int = 0


class HardwareReport(msgspec.Struct, frozen=True):
    gpus: tuple[GpuReport, ...] = ()
    memory_bytes: int = 0
    free_bytes: int = 0


class DownloadReport(msgspec.Struct, frozen=True):
    done_bytes: int = 0
    total_bytes: int = 0

    @property
    def share(self) -> float:
        """How much is done, 0 to 1."""
        return min(1.0, self.done_bytes / self.total_bytes) if self.total_bytes else 0.0


class EngineReport(msgspec.Struct, frozen=True):
    """`progress` is there while the engine fetches its model."""

    name: str = ""
    kind: str = ""
    url: str = ""
    state: str = ""
    detail: str = ""
    models: tuple[str, ...] = ()
    slots: int = 0
    busy: int = 0
    queued: int = 0
    progress: DownloadReport | None = None


class HolderReport(msgspec.Struct, frozen=True):
    id: str = ""
    name: str = ""
    loaded: bool = False
    slots: int = 0


class ModelReport(msgspec.Struct, frozen=True):
    name: str
    context: int = 0
    features: tuple[str, ...] = ()
    nodes: tuple[HolderReport, ...] = ()


class PeerReport(msgspec.Struct, frozen=True):
    """`addresses` are where it says it can be dialled, `address` is the other end of the link to it."""

    id: str = ""
    short: str = ""
    name: str = ""
    state: str = ""
    via: str | None = None
    path: tuple[str, ...] = ()
    rtt_ms: float | None = None
    models: tuple[str, ...] = ()
    slots: int = 0
    queue: int | None = None
    owner: str = ""
    posture: str = ""
    version: str = ""
    addresses: tuple[str, ...] = ()
    address: str | None = None
    roles: tuple[str, ...] = ()
    pinned: bool = False
    invited_by: str | None = None
    last_seen_s: float | None = None


class WaitingReport(msgspec.Struct, frozen=True):
    """A request that waits for a slot; `position` 1 is the next."""

    engine: str = ""
    owner: str = ""
    tier: str = ""
    position: int = 0
    age_s: float = 0


class RequestsReport(msgspec.Struct, frozen=True):
    running: int = 0
    for_peers: int = 0
    queued: int = 0
    queued_elsewhere: int = 0
    answered: int = 0
    failed: int = 0


class CloudReport(msgspec.Struct, frozen=True):
    """Commercial APIs, and what is left of today's budget."""

    providers: tuple[str, ...] = ()
    budget: float = 0
    left: float = 0


class Report(msgspec.Struct, frozen=True):
    """One node's view of itself and its mesh, at the moment of asking."""

    node: NodeReport
    mesh: MeshReport = MeshReport()
    api: str = ""
    hardware: HardwareReport = HardwareReport()
    engines: tuple[EngineReport, ...] = ()
    models: tuple[ModelReport, ...] = ()
    peers: tuple[PeerReport, ...] = ()
    requests: RequestsReport = RequestsReport()
    waiting: tuple[WaitingReport, ...] = ()
    cloud: CloudReport | None = None


def read(document: Any) -> Report:
    """Raises DecodeError when the document is not a node's status."""
    try:
        return msgspec.convert(document, Report, strict=False)
    except msgspec.ValidationError as error:
        raise DecodeError(f"this is not a meshnode's status: {error}") from error

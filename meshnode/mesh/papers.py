"""This node's papers in one mesh: what it shows, whom it believes, and both on disk as they change.

Everything is asked for at the moment it is needed, so that a renewed chain, a rotated secret, a pin or a revocation
counts at once, and no link is cut for it. Not for telling others (notices.py). Counterpart: keep.home.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec
import trio

from meshnode.config import Config
from meshnode.errors import CertificateRefused, ConfigError, DecodeError, IdentityError, SecretFileError
from meshnode.gossip import Verdict
from meshnode.identity import Barred, Issuer, Mesh, Notices, Pins, Role, Rotation, Trust, TrustMode, verify
from meshnode.identity.certificates import pack_chain, read_membership
from meshnode.keep.home import Membership
from meshnode.mesh.addresses import own_name
from meshnode.model.advert import ADVERT_CONTEXT
from meshnode.model.ids import NodeId
from meshnode.observe import log

if TYPE_CHECKING:
    from meshnode.identity import NodeKey, Notice, Peer, Revocation
    from meshnode.identity.certificates import Chain, MembershipCertificate
    from meshnode.keep.home import Home
    from meshnode.model.advert import Advert

logger = log.get("mesh")

AGAIN_S = 30.0
"""After a disk that took nothing, before it is tried again."""


_read = lru_cache(maxsize=8)(read_membership)
"""This node's own certificates are looked at with every request."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is on disk."""

    membership: Membership
    notices: tuple[Notice, ...]
    pins: Pins


class Papers:
    """One membership. `membership` is the present one; `trust` and `notices` judge others.

    `disk` keeps writers of the home apart. After `close` nothing is written any more: the home is another mesh's.
    """

    def __init__(self, home: Home, key: NodeKey, config: Config, membership: Membership, disk: trio.Lock) -> None:
        """Reads what is kept of the mesh. Raises SecretFileError."""
        self.key = key
        self.mode = TrustMode(config.mesh.trust)
        self.name = own_name(config.node.name)
        self.pinned = pinned_ids(config)
        self.membership = membership
        self._home = home
        self._disk = disk
        self._closed = False
        self._changed = trio.Event()
        self.epoch = 0
        """Grows with every change: what was judged before may be judged otherwise now."""
        notices, pins = home.notices(membership.mesh.id), home.pins()
        self._kept = _Kept(membership, notices, pins)
        self.notices = Notices.restored(membership.mesh.id, notices)
        known = dict.fromkeys((*pins.pinned, *sorted(map(bytes, self.pinned))))
        both = msgspec.structs.replace(pins, pinned=tuple(known))
        self.trust = Trust(self.mode, membership.mesh.id, key.id, both, self.notices)
        # Notices are written first: a crash may have come before what they rotate was.
        self._settle()

    @property
    def mesh(self) -> Mesh:
        """The mesh with its present secrets."""
        return self.membership.mesh

    @property
    def chain(self) -> Chain:
        """What makes this node a member; empty in psk-tofu."""
        return self.membership.chain

    @property
    def packed_chain(self) -> bytes:
        """The same as adverts carry it."""
        return pack_chain(self.chain) if self.chain else b""

    @property
    def certificate(self) -> MembershipCertificate | None:
        """What the chain says of this node."""
        chain = self.membership.chain
        return _read(chain[0]) if chain else None

    @property
    def roles(self) -> frozenset[Role]:
        """What this node may do."""
        own = self.certificate
        return frozenset(own.roles) if own is not None else frozenset(Role) - {Role.INVITE}

    @property
    def until(self) -> int | None:
        """Wall time at which the first certificate of the chain ends; None for a membership without any."""
        return min((read_membership(signed).not_after for signed in self.chain), default=None)

    @property
    def may_issue(self) -> bool:
        """Whether this node may invite and renew others."""
        try:
            self.issuer()
        except CertificateRefused:
            return False
        return True

    @property
    def expelled(self) -> str | None:
        """Why this node is out of the mesh; None while it is not."""
        return self.notices.bars([read_membership(signed) for signed in self.chain], self.key.id)

    def issuer(self) -> Issuer:
        """Who this node issues as. Raises CertificateRefused when it may not, or nobody can."""
        if self.mode is TrustMode.PSK_TOFU:
            raise CertificateRefused(
                "in psk-tofu a machine is let in by a copy of the file mesh.secret, and nothing is signed: to change "
                "who has the secret, put a new one (`meshnode mesh secret`) on every machine that is to stay"
            )
        if self.expelled is not None:
            raise CertificateRefused(f"this node is out of the mesh, so nothing that it signs counts: {self.expelled}")
        return self.membership.issuer(self.key)

    def check_member(self, payload: bytes, remote_static: bytes) -> tuple[NodeId, Peer]:
        """Judge a member's credential. Raises CertificateRefused."""
        before = self.trust.pins
        peer = self.trust.check_member(payload, remote_static, int(time.time()))
        if self.trust.pins != before:
            self._note()
        return peer.node, peer

    def check_joiner(self, payload: bytes, remote_static: bytes) -> tuple[NodeId, Peer]:
        """Judge a joiner's credential. Raises CertificateRefused."""
        peer = self.trust.check_joiner(payload, remote_static, int(time.time()))
        return peer.node, peer

    def barred(self, peer: Peer) -> str | None:
        """Why a member that was believed is so no more. An ended certificate is no such reason: the next handshake
        asks for another."""
        chain = pack_chain(peer.chain) if peer.chain else b""
        try:
            self.trust.judge_advert(peer.node, peer.name, chain, int(time.time()))
        except Barred as error:
            return str(error)
        except CertificateRefused:
            return None
        return None

    def holds(self, peer: Peer) -> bool:
        """Whether a member that was believed still is."""
        chain = pack_chain(peer.chain) if peer.chain else b""
        try:
            self.trust.judge_advert(peer.node, peer.name, chain, int(time.time()))
        except CertificateRefused:
            return False
        return True

    def member(self, advert: Advert) -> Peer:
        """Who an advert's chain says its node is. Raises CertificateRefused."""
        return self.trust.judge_advert(advert.node, advert.name, advert.chain, int(time.time()))

    def judge(self, advert: Advert, body: bytes, signature: bytes) -> Verdict:
        """What gossip is to think of an advert."""
        if not verify(advert.node, ADVERT_CONTEXT, body, signature):
            return Verdict.FORGED
        try:
            self.member(advert)
        except CertificateRefused:
            return Verdict.UNWANTED
        return Verdict.GOOD

    def take(self, notice: Notice) -> Revocation | Rotation | None:
        """Believe a notice: what is new, or None. Raises CertificateRefused. Tell the rest of the node."""
        statement = self.notices.add(notice, int(time.time()))
        if statement is not None:
            self._settle()
            self._note()
        return statement

    def adopt(self, membership: Membership) -> None:
        """A renewed chain, other roles, the root's seed: of the same mesh."""
        assert membership.mesh.id == self.mesh.id
        self.membership = membership
        self._note()

    def pin(self, node: NodeId, name: str = "") -> bool:
        """Believe a node from now on. Whether that is new."""
        return self._noted(self.trust.pin(node, name))

    def bar(self, node: NodeId) -> bool:
        """Believe a node no more, at this node only. Whether that is new."""
        return self._noted(self.trust.bar(node))

    def forget(self, node: NodeId) -> bool:
        """Drop pins and bars of a node. Whether there were any. Raises IdentityError for one that the configuration
        pins."""
        if node in self.pinned:
            raise IdentityError(f"{node.short} is pinned in the configuration: remove it from mesh.pinned")
        return self._noted(self.trust.forget(node))

    def close(self) -> None:
        """Write nothing any more."""
        self._closed = True

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write down what changes, soon after it did. Returns only by cancellation."""
        task_status.started()
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            try:
                await self.keep()
            except SecretFileError as error:
                logger.warning("what changed in the mesh cannot be kept", reason=str(error))
                await trio.sleep(AGAIN_S)
                self._changed.set()

    async def keep(self) -> None:
        """Write down what has changed; on disk when this returns. Raises SecretFileError."""
        async with self._disk:
            pins = self.trust.pins
            stored = tuple(key for key in pins.pinned if key not in self.pinned)
            now = _Kept(self.membership, self.notices.all(), msgspec.structs.replace(pins, pinned=stored))
            if not self._closed and now != self._kept:
                await trio.to_thread.run_sync(self._write, now, self._kept, abandon_on_cancel=False)
                self._kept = now

    def _write(self, now: _Kept, before: _Kept) -> None:
        """Notices first: what they rotate is done again at the next start."""
        if now.notices != before.notices:
            self._home.save_notices(self.mesh.id, now.notices)
        if now.pins != before.pins:
            self._home.save_pins(now.pins)
        if now.membership != before.membership and self.mode is not TrustMode.PSK_TOFU:
            self._home.save_membership(now.membership)

    def _note(self) -> None:
        self.epoch += 1
        self._changed.set()

    def _settle(self) -> None:
        """Take the network secret from the rotations that are believed."""
        self.notices.forget_old(int(time.time()))
        known = self.notices
        mesh = self.mesh.settled(known.rotations(), known.out(), int(time.time()), known.makers())
        if mesh != self.mesh:
            self.membership = msgspec.structs.replace(self.membership, mesh=mesh)

    def _noted(self, changed: bool) -> bool:
        if changed:
            self._note()
        return changed


def pinned_ids(config: Config) -> frozenset[NodeId]:
    """The node ids of `mesh.pinned`. Raises ConfigError."""
    found, faults = [], []
    for text in config.mesh.pinned:
        try:
            found.append(NodeId.parse(text))
        except DecodeError as error:
            faults.append(f"mesh.pinned: {error}")
    if faults:
        raise ConfigError(faults)
    return frozenset(found)

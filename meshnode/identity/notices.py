"""The notices that this node believes: a set that comes out the same in whatever order, however often they arrive.

What the root says stands. What a member says stands until the root revokes that member: then nothing of it counts,
whether it came before or after, so that a stolen inviter's damage ends with it. Not for carrying notices (mesh).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meshnode.errors import CertificateRefused
from meshnode.identity.certificates import MEMBERSHIP_LIFETIME_S, MembershipCertificate, Role
from meshnode.identity.credential import check_chain
from meshnode.identity.keys import verify
from meshnode.identity.statements import NOTICE_CONTEXT, ROOT_LEAD, Notice, Revocation, Rotation
from meshnode.model.ids import NodeId

__all__ = ["Notice", "Notices", "Revocation", "Rotation"]

AHEAD_S = 300
"""As far as certificates are back-dated: the signer's clock may be so far ahead."""

MEMBERS_KEPT_S = 60 * 24 * 3600
"""Twice a membership's life: whoever was revoked has no certificate left by then, nor has one who renewed it late."""

ROOTS_KEPT_S = MEMBERS_KEPT_S + MEMBERSHIP_LIFETIME_S
"""Until nothing that a revoked member could still sign, dated within its last certificate, is young enough to count."""

MAX_REVOCATIONS = 1024
MAX_FROM_ONE_MEMBER = 256
"""So that a member that goes wrong cannot fill the table; the root's are never pushed out by members'."""

MAX_ROTATIONS = 4
"""Of each signer, the highest: those of one that is revoked later must not have pushed out another's."""

MAX_ROTATORS = 16
"""Signers whose rotations are kept, those with the highest."""


@dataclass(frozen=True, slots=True)
class _Revoked:
    """A revocation that is believed. `member`: who signed it, None for the root.

    Those of lowest `rank` stay when there are too many: the root's newest, then members' by digest. An order that the
    signer does not choose makes a flood replace ever less, and all nodes keep the same.
    """

    notice: Notice
    statement: Revocation
    member: NodeId | None
    rank: tuple[int, int, bytes]

    @classmethod
    def of(cls, notice: Notice, statement: Revocation, member: NodeId | None) -> _Revoked:
        if member is None:
            return cls(notice, statement, member, (0, -statement.at, statement.node))
        return cls(notice, statement, member, (1, 0, hashlib.sha256(member + statement.node).digest()))


@dataclass(frozen=True, slots=True)
class _Rotated:
    notice: Notice
    statement: Rotation
    member: NodeId | None

    @property
    def rank(self) -> tuple[int, bytes, bytes]:
        """Higher wins. Two signers may say the same: each vouches for it, and one may be revoked."""
        return (self.statement.generation, self.notice.body, self.member or b"")


class Notices:
    """The revocations and rotations of one mesh that are believed now. Bounded."""

    def __init__(self, mesh_id: bytes) -> None:
        self._mesh_id = mesh_id
        self._by_root: dict[NodeId, _Revoked] = {}
        self._by_members: dict[NodeId, dict[NodeId, _Revoked]] = {}
        self._rotations: list[_Rotated] = []

    @classmethod
    def restored(cls, mesh_id: bytes, kept: Iterable[Notice]) -> Notices:
        """What a node kept over a restart; what cannot be believed of it is left out. Times are not judged again: a
        machine that starts with its clock in the past lets nobody back in."""
        notices = cls(mesh_id)
        for notice in kept:
            with contextlib.suppress(CertificateRefused):
                notices._take(notice, notice.statement)
        return notices

    def add(self, notice: Notice, now: int) -> Revocation | Rotation | None:
        """What the notice says, if that is news; None when it is known or no longer of interest.

        Raises CertificateRefused when it is not to be believed: unreadable, another mesh's, from the future, forged,
        signed by nobody who may, or by somebody whom the root has revoked.
        """
        statement = notice.statement
        if statement.at > now + AHEAD_S:
            raise CertificateRefused(f"the notice is dated {statement.at - now} s ahead: is a clock wrong?")
        if statement.at < now - _kept_s(notice, statement):
            return None
        return self._take(notice, statement)

    def all(self) -> tuple[Notice, ...]:
        """Everything believed, in the order in which others should hear it: the root's revocations first, since they
        say whose other notices count, then members', then rotations, so that no revoked node hears those."""
        return tuple([known.notice for known in self._revocations()] + [known.notice for known in self._rotations])

    def bars(self, certificates: Sequence[MembershipCertificate], node: NodeId) -> str | None:
        """Why `node` is out though it has these certificates (its own first; none for a joiner); None: it is not."""
        if node in self._by_root:
            return f"node {node.short} was revoked"
        signers = self._by_members.get(node)
        # Only the root bars those who may invite: else each of them could take the mesh from the others.
        if signers and not (certificates and Role.INVITE in certificates[0].roles):
            return f"node {node.short} was revoked by {next(iter(signers)).short}"
        for inviter in _inviters(certificates):
            revoked = self._by_root.get(inviter)
            if revoked is not None and node not in revoked.statement.kept:
                return f"node {inviter.short}, which invited {node.short}, was revoked"
        return None

    def revoked(self) -> frozenset[NodeId]:
        """Every node that a revocation names. A member's does not bar those who may invite: `bars` decides."""
        return frozenset(self._by_root) | frozenset(self._by_members)

    def by_member(self, member: NodeId) -> tuple[Revocation, ...]:
        """What this member has revoked: lifted when the root revokes the member, unless the root says it again."""
        return tuple(known.statement for known in self._revocations() if known.member == member)

    def rotations(self) -> tuple[Rotation, ...]:
        """The last rotations believed, highest first."""
        return tuple(known.statement for known in self._rotations)

    def makers(self) -> dict[bytes, NodeId]:
        """Who made the secrets of `rotations`: the highest member that says one, nobody where the root does."""
        roots = {one.statement.secret for one in self._rotations if one.member is None}
        said = [(one.statement.secret, one.member) for one in reversed(self._rotations) if one.member is not None]
        return {secret: member for secret, member in said if secret not in roots}

    def out(self) -> frozenset[NodeId]:
        """Members whom the root has revoked: network secrets made by them go behind all others (`Mesh.settled`)."""
        return frozenset(self._by_root)

    def forget_old(self, now: int) -> bool:
        """Drop what is too old to matter: the root's notices after 90 days, members' after 60. Whether any was."""
        before = len(self.all())
        self._keep(known for known in self._revocations() if _is_young(known.notice, known.statement, now))
        self._rotations = [known for known in self._rotations if _is_young(known.notice, known.statement, now)]
        return len(self.all()) != before

    def _take(self, notice: Notice, statement: Revocation | Rotation) -> Revocation | Rotation | None:
        if statement.mesh != self._mesh_id:
            raise CertificateRefused("the notice is for another mesh")
        if isinstance(statement, Revocation):
            return self._take_revocation(_Revoked.of(notice, statement, notice.member))
        return self._take_rotation(_Rotated(notice, statement, notice.member))

    def _take_revocation(self, entry: _Revoked) -> Revocation | None:
        statement, node, member = entry.statement, NodeId(entry.statement.node), entry.member
        if node == self._mesh_id:
            raise CertificateRefused("the root of a mesh cannot be revoked")
        if member is not None and statement.kept:
            raise CertificateRefused("a member revokes those who invited nobody: there is none to keep")
        if self._knows(entry):
            return None
        crowded = self._is_crowded(member)
        if crowded and entry not in _that_fit([*self._revocations(), entry]):
            return None
        self._believe(entry)
        if member is None:
            self._by_root[node] = entry
            self._drop_statements_of(node)
        else:
            self._by_members.setdefault(node, {})[member] = entry
        if crowded:
            self._keep(_that_fit(self._revocations()))
        return statement

    def _take_rotation(self, entry: _Rotated) -> Rotation | None:
        statement = entry.statement
        if statement.generation > statement.at + (ROOT_LEAD if entry.member is None else 0):
            raise CertificateRefused("the rotation's generation is ahead of all clocks")
        if any(known.rank == entry.rank for known in self._rotations):
            return None
        kept = _highest([*self._rotations, entry])
        if entry not in kept:
            return None
        self._believe(entry)
        self._rotations = kept
        return statement

    def _knows(self, entry: _Revoked) -> bool:
        """The root may say again whom it keeps: the later word counts. A member's first is as good as any."""
        node = NodeId(entry.statement.node)
        if entry.member is not None:
            return entry.member in self._by_members.get(node, ())
        known = self._by_root.get(node)
        return known is not None and _order(known) >= _order(entry)

    def _is_crowded(self, member: NodeId | None) -> bool:
        """Whether one more from this signer may be one too many."""
        known = self._revocations()
        if member is not None and sum(one.member == member for one in known) >= MAX_FROM_ONE_MEMBER:
            return True
        return len(known) >= MAX_REVOCATIONS

    def _believe(self, entry: _Revoked | _Rotated) -> None:
        """Judge the signature and who signed. Raises CertificateRefused."""
        notice, member = entry.notice, entry.member
        if member is not None:
            if member in self._by_root:
                raise CertificateRefused(f"the notice is by {member.short}, who was revoked")
            # As it was when the notice was signed: a member's word outlives its membership.
            certificate, _ = check_chain(notice.chain, member, self._mesh_id, entry.statement.at)
            if Role.INVITE not in certificate.roles:
                raise CertificateRefused(f"the notice is by {member.short}, who lacks the role invite")
        if not verify(member or self._mesh_id, NOTICE_CONTEXT, notice.body, notice.signature):
            raise CertificateRefused("the notice's signature is wrong")

    def _drop_statements_of(self, member: NodeId) -> None:
        self._keep(known for known in self._revocations() if known.member != member)
        self._rotations = [known for known in self._rotations if known.member != member]

    def _revocations(self) -> list[_Revoked]:
        members = [known for signers in self._by_members.values() for known in signers.values()]
        return [*self._by_root.values(), *members]

    def _keep(self, chosen: Iterable[_Revoked]) -> None:
        kept = list(chosen)
        self._by_root = {NodeId(known.statement.node): known for known in kept if known.member is None}
        self._by_members = {}
        for known in kept:
            if known.member is not None:
                self._by_members.setdefault(NodeId(known.statement.node), {})[known.member] = known


def _order(known: _Revoked) -> tuple[int, bytes]:
    return (known.statement.at, known.notice.body)


def _inviters(certificates: Sequence[MembershipCertificate]) -> list[NodeId]:
    """Who let the node in: those of the chain, and one whom the root took over from."""
    first = [NodeId(certificate.inviter) for certificate in certificates[:1]]
    return first + [NodeId(certificate.node) for certificate in certificates[1:]]


def _that_fit(known: Iterable[_Revoked]) -> list[_Revoked]:
    """As many as are kept, the same ones in whatever order they came."""
    chosen: list[_Revoked] = []
    from_member: Counter[NodeId] = Counter()
    for one in sorted(known, key=lambda one: one.rank):
        if one.member is not None:
            from_member[one.member] += 1
            if from_member[one.member] > MAX_FROM_ONE_MEMBER:
                continue
        chosen.append(one)
    return chosen[:MAX_REVOCATIONS]


def _highest(known: Iterable[_Rotated]) -> list[_Rotated]:
    """As many rotations as are kept, highest first, the same ones in whatever order they came."""
    of_signer: dict[NodeId | None, list[_Rotated]] = {}
    for one in sorted(known, key=lambda one: one.rank, reverse=True):
        if len(of_signer.setdefault(one.member, [])) < MAX_ROTATIONS:
            of_signer[one.member].append(one)
    # The dict's order is that of signers' highest.
    chosen = [one for ones in list(of_signer.values())[:MAX_ROTATORS] for one in ones]
    return sorted(chosen, key=lambda one: one.rank, reverse=True)


def _kept_s(notice: Notice, statement: Revocation | Rotation) -> int:
    return MEMBERS_KEPT_S if notice.chain or isinstance(statement, Rotation) else ROOTS_KEPT_S


def _is_young(notice: Notice, statement: Revocation | Rotation, now: int) -> bool:
    return statement.at >= now - _kept_s(notice, statement)

"""Who the nodes of the mesh are by their certificates, and what of their adverts is believed therefore.

An advert says what its node would like to do; its chain says what it may. Not for judging chains (identity.trust).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from meshnode.errors import CertificateRefused
from meshnode.identity import Barred, Role
from meshnode.model.ids import NodeId

if TYPE_CHECKING:
    from meshnode.identity import Peer
    from meshnode.mesh.papers import Papers
    from meshnode.model.advert import Advert


@dataclass(frozen=True, slots=True)
class _Judged:
    """An advert, who its node is, and what of the advert is believed."""

    advert: Advert
    member: Peer
    allowed: Advert


class Members:
    """The members behind the adverts that were last looked at. Each is judged once, until the papers change or a
    membership ends."""

    def __init__(self, papers: Papers) -> None:
        self._papers = papers
        self._judged: dict[NodeId, _Judged] = {}
        self._until = float("inf")
        self._epoch = papers.epoch

    def get(self, node: NodeId) -> Peer | None:
        """Who a node is; None for one without an advert that is believed."""
        found = self._judged.get(node)
        return found.member if found is not None else None

    def named(self) -> dict[NodeId, Peer]:
        """All of them."""
        return {node: found.member for node, found in self._judged.items()}

    def believed(self, adverts: Mapping[NodeId, Advert]) -> dict[NodeId, Advert]:
        """The adverts of members, each without what its node may not do."""
        if self._epoch != self._papers.epoch or self.outdated():
            self._judged, self._until, self._epoch = {}, float("inf"), self._papers.epoch
        before = self._judged
        now = {node: self._look(before.get(node), advert) for node, advert in adverts.items()}
        self._judged = {node: found for node, found in now.items() if found is not None}
        return {node: found.allowed for node, found in self._judged.items()}

    def outdated(self) -> bool:
        """Whether a membership has ended since."""
        return time.time() > self._until

    def _look(self, before: _Judged | None, advert: Advert) -> _Judged | None:
        if before is not None and before.advert is advert:
            return before
        try:
            member = self._papers.member(advert)
        except CertificateRefused:
            return None
        self._until = min(self._until, member.until)
        return _Judged(advert, member, _allowed(advert, member))

    def barred(self, advert: Advert) -> bool:
        """Whether this node is believed no more, however long its certificate lasts."""
        try:
            self._papers.member(advert)
        except Barred:
            return True
        except CertificateRefused:
            return False
        return False


def _allowed(advert: Advert, member: Peer) -> Advert:
    models = advert.models if member.may(Role.SERVE) else ()
    relay = advert.relay and member.may(Role.RELAY)
    # In psk-tofu nobody vouches for an owner, and everybody's word is as good.
    owner = member.owner if member.certificate is not None else advert.owner
    if (models, relay, owner) == (advert.models, advert.relay, advert.owner):
        return advert
    return msgspec.structs.replace(advert, models=models, relay=relay, owner=owner)


def owner_of(member: Peer | None) -> str:
    """Whose machine a node is as its certificate says; "" where none does."""
    return member.certificate.owner if member is not None and member.certificate is not None else ""

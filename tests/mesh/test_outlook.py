"""What one node sees of its mesh: the same view until something changes, and nothing in it that is not so."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from meshnode.config import load
from meshnode.identity import Issuer, Mesh, MeshRoot, NodeKey, Peer, Revocation, Role
from meshnode.identity.certificates import pack_chain
from meshnode.keep.home import Home, Membership
from meshnode.mesh.outlook import RTT_CLASSES_MS, UNMEASURED_S, Outlook, rtt_class
from meshnode.mesh.papers import Papers
from meshnode.model.advert import Advert, ModelOffer, Neighbour
from meshnode.model.ids import NodeId
from meshnode.model.posture import Posture

ROOT = MeshRoot.generate()
MESH = Mesh(ROOT.mesh, "home", bytes(32))
ISSUER = Issuer(ROOT, MESH.id)
A, B = NodeKey.generate(), NodeKey.generate()


@dataclass
class FakeLink:
    membership: Peer
    rtt_s: float | None = 0.01
    draining: bool = False


@dataclass
class FakeGossiper:
    heard: dict[NodeId, Advert] = field(default_factory=dict)
    suspected: frozenset[NodeId] = frozenset()

    def adverts(self) -> dict[NodeId, Advert]:
        return dict(self.heard)


@dataclass
class Seen:
    """An Outlook and all that it is told."""

    outlook: Outlook
    papers: Papers
    gossiper: FakeGossiper
    links: dict[NodeId, Any]

    @property
    def me(self) -> NodeId:
        return self.papers.key.id

    def hear(self, *adverts: Advert) -> None:
        self.gossiper.heard |= {one.node: one for one in adverts}
        self.outlook.renew()

    def link(self, key: NodeKey, **state: Any) -> FakeLink:
        peer = self.papers.member(advert(key))
        self.links[key.id] = made = FakeLink(peer, **state)
        self.outlook.renew()
        return made


def advert(key: NodeKey, *near: NodeId, roles: tuple[Role, ...] | None = None, **more: Any) -> Advert:
    chain = pack_chain(ISSUER.issue(key.id, int(time.time()), 1, roles=roles))
    neighbours = tuple(Neighbour(bytes(node), 1) for node in near)
    return Advert(bytes(key.id), MESH.id, 1, 1, 180, chain=chain, neighbours=neighbours, **more)


@pytest.fixture
def seen(tmp_path: Path) -> Seen:
    home = Home(tmp_path / "home", time.time)
    key = home.node_key()
    chain = ISSUER.issue(key.id, int(time.time()), 1)
    papers = Papers(home, key, load(), Membership(MESH, chain), trio.Lock())
    gossiper = FakeGossiper()
    links: dict[NodeId, Any] = {}
    return Seen(Outlook(key.id, papers, gossiper, lambda: links), papers, gossiper, links)  # type: ignore[arg-type]


async def test_a_view_is_the_same_object_until_something_has_changed(seen: Seen) -> None:
    before, changed = seen.outlook.view(), seen.outlook.changed
    assert seen.outlook.view() is before
    assert not changed.is_set()
    seen.hear(advert(A))
    assert changed.is_set()
    assert not seen.outlook.changed.is_set()
    assert seen.outlook.view().version > before.version
    assert A.id not in before.adverts
    assert A.id in seen.outlook.view().adverts


def test_what_is_no_member_is_not_in_it(seen: Seen) -> None:
    seen.hear(advert(A), Advert(bytes(B.id), MESH.id, 1, 1, 180))
    assert set(seen.outlook.view().adverts) == {A.id}


def test_what_this_node_says_of_itself_counts_before_others_have_heard_it(seen: Seen) -> None:
    told = Advert(bytes(seen.me), MESH.id, 0, 0, 180, name="new")
    seen.hear(advert(seen.papers.key, name="old"))
    seen.outlook.told = told
    seen.outlook.renew()
    assert seen.outlook.view().adverts[seen.me] is told


def test_links_have_their_round_trip_or_a_guess_that_is_not_the_best(seen: Seen) -> None:
    seen.link(A, rtt_s=0.002)
    seen.link(B, rtt_s=None)
    assert seen.outlook.view().links == {A.id: 0.002, B.id: UNMEASURED_S}


def test_a_link_that_is_suspected_or_draining_is_no_way(seen: Seen) -> None:
    seen.link(A)
    draining = seen.link(B)
    draining.draining = True
    seen.gossiper.suspected = frozenset({A.id})
    seen.outlook.renew()
    assert seen.outlook.view().links == {}


def test_what_was_verified_is_in_views_from_then_on_and_the_same_again_is_no_change(seen: Seen) -> None:
    postures, weights = {A.id: Posture.SIGNED_WEIGHTS}, {A.id: frozenset({b"w" * 32})}
    seen.outlook.vouch(postures, weights)
    view = seen.outlook.view()
    assert (view.postures, view.weights) == (postures, weights)
    seen.outlook.vouch(dict(postures), dict(weights))
    assert seen.outlook.view() is view


async def test_pins_are_in_views(seen: Seen) -> None:
    seen.papers.pin(A.id)
    seen.outlook.renew()
    assert A.id in seen.outlook.view().pinned


def test_a_member_is_known_by_its_advert_or_by_its_link_alone(seen: Seen) -> None:
    assert seen.outlook.member(A.id) is None
    assert seen.outlook.roles(A.id) == frozenset()
    seen.link(A)
    seen.hear(advert(B))
    for key in (A, B):
        member = seen.outlook.member(key.id)
        assert member is not None
        assert member.node == key.id
    assert set(seen.outlook.members()) == {A.id, B.id}


def test_roles_are_those_of_the_certificate_and_this_nodes_are_its_own(seen: Seen) -> None:
    seen.hear(advert(A, roles=(Role.CLIENT,), models=(ModelOffer("m"),)))
    assert seen.outlook.roles(A.id) == {Role.CLIENT}
    assert seen.outlook.view().adverts[A.id].models == ()
    assert seen.outlook.roles(seen.me) == frozenset(seen.papers.roles)


async def test_who_is_barred_is_no_member_even_while_its_link_lasts(seen: Seen) -> None:
    seen.hear(advert(A))
    seen.link(A)
    assert not seen.outlook.barred(advert(A))
    seen.papers.take(ISSUER.notice(Revocation(MESH.id, bytes(A.id), int(time.time()), ())))
    seen.outlook.renew()
    assert seen.outlook.barred(advert(A))
    assert seen.outlook.member(A.id) is None
    assert A.id not in seen.outlook.view().adverts


def test_who_brought_a_node_in_is_read_from_its_certificate(seen: Seen) -> None:
    brought = Advert(
        bytes(B.id), MESH.id, 1, 1, 180,
        chain=pack_chain(ISSUER.issue(B.id, int(time.time()), 1, invited_by=bytes(A.id))),
    )  # fmt: skip
    seen.hear(advert(A), brought)
    assert seen.outlook.inviter(advert(A)) == MESH.id
    assert seen.outlook.inviter(brought) == bytes(A.id)
    assert seen.outlook.inviter(advert(NodeKey.generate())) == b""


def test_the_next_hop_goes_round_whom_it_shall(seen: Seen) -> None:
    target = NodeKey.generate()
    for key in (A, B):
        seen.link(key)
    seen.hear(
        advert(seen.papers.key, A.id, B.id),
        advert(A, seen.me, target.id),
        advert(B, seen.me, target.id),
        advert(target, A.id, B.id),
    )
    assert seen.outlook.next_hop(target.id, (A.id,)) == B.id
    assert seen.outlook.next_hop(target.id, (B.id,)) == A.id
    assert seen.outlook.next_hop(target.id, (A.id, B.id)) is None


@given(st.floats(0.0, 5.0), st.floats(0.0, 5.0))
def test_a_round_trip_is_told_as_a_class_that_is_never_less_and_keeps_their_order(one_s: float, other_s: float) -> None:
    assert rtt_class(one_s) in RTT_CLASSES_MS
    assert rtt_class(one_s) >= one_s * 1000
    assert one_s > other_s or rtt_class(one_s) <= rtt_class(other_s)


def test_the_longest_class_stands_for_all_that_is_longer() -> None:
    assert rtt_class(60.0) == RTT_CLASSES_MS[-1]
    assert [rtt_class(limit / 1000) for limit in RTT_CLASSES_MS] == list(RTT_CLASSES_MS)

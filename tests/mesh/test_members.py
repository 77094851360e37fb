"""Who the nodes of the mesh are by their certificates, and what of their adverts counts therefore."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import trio

from meshnode.config import load
from meshnode.identity import Issuer, Mesh, MeshRoot, NodeKey, Peer, Revocation, Role
from meshnode.identity.certificates import pack_chain
from meshnode.keep.home import Home, Membership
from meshnode.mesh.members import Members, owner_of
from meshnode.mesh.papers import Papers
from meshnode.model.advert import Advert, ModelOffer

ROOT = MeshRoot.generate()
MESH = Mesh(ROOT.mesh, "home", bytes(32))
ISSUER = Issuer(ROOT, MESH.id)
A, B = NodeKey.generate(), NodeKey.generate()


def advert(key: NodeKey, *, roles: tuple[Role, ...] | None = None, owner: str = "", **more: Any) -> Advert:
    chain = pack_chain(ISSUER.issue(key.id, int(time.time()), 1, roles=roles, owner=owner))
    return Advert(bytes(key.id), MESH.id, 1, 1, 180, models=(ModelOffer("llama"),), chain=chain, **more)


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    home = Home(tmp_path / "home", time.time)
    key = home.node_key()
    chain = ISSUER.issue(key.id, int(time.time()), 1)
    return Papers(home, key, load(), Membership(MESH, chain), trio.Lock())


class Judging:
    """The same, counting how often a chain is judged."""

    def __init__(self, papers: Papers, monkeypatch: pytest.MonkeyPatch) -> None:
        self.judged = 0
        real = papers.member

        def member(said: Advert) -> Peer:
            self.judged += 1
            return real(said)

        monkeypatch.setattr(papers, "member", member)


def test_a_member_that_may_all_is_believed_in_all(papers: Papers) -> None:
    said, members = advert(A), Members(papers)
    assert members.believed({A.id: said}) == {A.id: said}
    assert members.believed({A.id: said})[A.id] is said
    found = members.get(A.id)
    assert found is not None
    assert found.node == A.id
    assert set(members.named()) == {A.id}


@pytest.mark.parametrize(
    ("roles", "models", "relay"),
    [((Role.SERVE,), 1, False), ((Role.RELAY,), 0, True), ((Role.CLIENT,), 0, False)],
)
def test_what_a_node_may_not_do_it_does_not_offer(
    papers: Papers, roles: tuple[Role, ...], models: int, relay: bool
) -> None:
    believed = Members(papers).believed({A.id: advert(A, roles=roles)})[A.id]
    assert (len(believed.models), believed.relay) == (models, relay)


def test_whose_a_machine_is_its_certificate_says_and_not_its_advert(papers: Papers) -> None:
    chain = pack_chain(ISSUER.issue(A.id, int(time.time()), 1, owner="ann"))
    liar = Advert(bytes(A.id), MESH.id, 1, 1, 180, owner="bob", chain=chain)
    members = Members(papers)
    assert members.believed({A.id: liar})[A.id].owner == "ann"
    assert owner_of(members.get(A.id)) == "ann"
    assert owner_of(None) == ""


def test_who_is_no_member_is_nobody(papers: Papers) -> None:
    members = Members(papers)
    stranger = Advert(bytes(B.id), MESH.id, 1, 1, 180)
    assert members.believed({A.id: advert(A), B.id: stranger}).keys() == {A.id}
    assert members.get(B.id) is None
    assert not members.barred(stranger)


def test_an_advert_is_judged_once_and_again_when_it_is_another(papers: Papers, monkeypatch: pytest.MonkeyPatch) -> None:
    judging, members, said = Judging(papers, monkeypatch), Members(papers), advert(A)
    for _ in range(3):
        members.believed({A.id: said})
    assert judging.judged == 1
    members.believed({A.id: advert(A)})
    assert judging.judged == 2


def test_who_is_not_looked_at_any_more_is_known_no_more(papers: Papers) -> None:
    members = Members(papers)
    members.believed({A.id: advert(A), B.id: advert(B)})
    members.believed({B.id: advert(B)})
    assert members.get(A.id) is None


async def test_whoever_is_revoked_is_out_at_the_next_look(papers: Papers) -> None:
    members, said = Members(papers), advert(A)
    members.believed({A.id: said})
    papers.take(ISSUER.notice(Revocation(MESH.id, bytes(A.id), int(time.time()), ())))
    assert members.believed({A.id: said}) == {}
    assert members.barred(said)


def test_a_membership_that_has_ended_counts_no_more(papers: Papers, monkeypatch: pytest.MonkeyPatch) -> None:
    members, said = Members(papers), advert(A)
    members.believed({A.id: said})
    found = members.get(A.id)
    assert found is not None
    assert not members.outdated()
    monkeypatch.setattr("time.time", lambda: found.until + 1.0)
    assert members.outdated()
    assert members.believed({A.id: said}) == {}
    assert not members.outdated()

from __future__ import annotations

import pytest

from meshnode.errors import CertificateRefused
from meshnode.identity import Issuer, MeshRoot, Revocation, Role, Rotation, check_chain
from meshnode.identity.certificates import read_membership
from tests.identity.people import ALICE, BOB, BY_ROOT, CAROL, DAY, FOREIGN_ROOT, MESH, NOW, alice_chain, bob_chain


def test_the_root_gives_every_role() -> None:
    assert set(read_membership(alice_chain()[0]).roles) == set(Role)


def test_a_member_gives_its_roles_but_not_the_one_to_invite() -> None:
    assert set(read_membership(bob_chain()[0]).roles) == {Role.CLIENT, Role.RELAY, Role.SERVE}


def test_a_member_gives_no_role_it_lacks() -> None:
    chain = BY_ROOT.issue(ALICE.id, NOW, 1, roles=[Role.INVITE, Role.CLIENT])
    issuer = Issuer(ALICE, MESH.id, chain)
    assert issuer.grantable == {Role.CLIENT}
    with pytest.raises(CertificateRefused, match="serve"):
        issuer.issue(BOB.id, NOW, 2, roles=[Role.SERVE])


def test_a_member_without_the_role_may_not_invite() -> None:
    with pytest.raises(CertificateRefused, match="may not invite, revoke or rotate: it lacks the role `invite`"):
        Issuer(ALICE, MESH.id, BY_ROOT.issue(ALICE.id, NOW, 1, roles=[Role.SERVE]))


def test_a_member_invited_by_a_member_may_not_invite() -> None:
    with pytest.raises(CertificateRefused, match="may not invite, revoke or rotate: it lacks the role `invite`"):
        Issuer(BOB, MESH.id, bob_chain())


def test_a_foreign_root_is_no_issuer() -> None:
    with pytest.raises(CertificateRefused, match="root"):
        Issuer(FOREIGN_ROOT, MESH.id)


def test_membership_lasts_thirty_days_and_begins_in_the_past() -> None:
    certificate = read_membership(alice_chain()[0])
    assert (certificate.not_before, certificate.not_after) == (NOW - 300, NOW + 30 * DAY)


def test_nobody_is_a_member_for_longer_than_who_invited_them() -> None:
    late = NOW + 20 * DAY
    chain = Issuer(ALICE, MESH.id, alice_chain()).issue(CAROL.id, late, 3)
    assert read_membership(chain[0]).not_after == NOW + 30 * DAY
    assert check_chain(chain, CAROL.id, MESH.id, late)[1] == NOW + 30 * DAY


def test_it_knows_whether_it_is_the_root() -> None:
    assert BY_ROOT.is_root and BY_ROOT.id == MESH.id
    by_alice = Issuer(ALICE, MESH.id, alice_chain())
    assert not by_alice.is_root and by_alice.id == ALICE.id


def test_who_let_a_node_in_is_kept_where_another_renews_it() -> None:
    renewed = read_membership(BY_ROOT.issue(BOB.id, NOW, 1, invited_by=ALICE.public)[0])
    assert (renewed.issuer, renewed.inviter) == (MESH.id, ALICE.id)
    assert read_membership(BY_ROOT.issue(BOB.id, NOW, 1, invited_by=MESH.id)[0]).invited_by == b""


class TestNotices:
    def test_the_roots_carries_no_chain_and_a_members_carries_its_own(self) -> None:
        statement = Revocation(MESH.id, CAROL.public, NOW)
        assert BY_ROOT.notice(statement).chain == ()
        assert Issuer(ALICE, MESH.id, alice_chain()).notice(statement).chain == alice_chain()

    def test_it_says_what_was_signed(self) -> None:
        statement = Rotation(MESH.id, 3, b"n" * 32, NOW)
        assert BY_ROOT.notice(statement).statement == statement

    def test_nothing_is_signed_for_another_mesh(self) -> None:
        with pytest.raises(CertificateRefused, match="another mesh"):
            BY_ROOT.notice(Revocation(FOREIGN_ROOT.mesh, CAROL.public, NOW))

    @pytest.mark.parametrize("count", [17, 40])
    def test_nothing_is_signed_that_nobody_would_read(self, count: int) -> None:
        kept = tuple(MeshRoot.generate().public for _ in range(count))
        with pytest.raises(CertificateRefused, match=r"cannot be read|at most"):
            BY_ROOT.notice(Revocation(MESH.id, CAROL.public, NOW, kept))

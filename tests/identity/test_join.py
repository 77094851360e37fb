from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.errors import CertificateRefused, DecodeError
from meshnode.identity import (
    Issuer,
    JoinGrant,
    JoinRequest,
    Mesh,
    NodeKey,
    Notice,
    OldSecret,
    Revocation,
    Role,
    Rotation,
    StoredInvite,
    accept_grant,
    check_chain,
    make_grant,
)
from meshnode.identity.join import MAX_GRANT_BYTES, MAX_NOTICES
from meshnode.model import codec
from meshnode.model.psk import Secrets
from tests.identity.people import ALICE, BOB, BY_ROOT, CAROL, DAY, FOREIGN_ROOT, MESH, NOW, ROOT, alice_chain

INVITE = StoredInvite(b"hinthint", NOW + DAY, Secrets(b"0" * 32, b"3" * 32), owner="bob", used=True)
REQUEST = JoinRequest(BOB.id, "laptop")
GRANT = make_grant(BY_ROOT, MESH, REQUEST, BOB.id, NOW, 9, INVITE, addresses=("192.168.1.5:6375",))


def grant(
    issuer: Issuer = BY_ROOT,
    joiner: NodeKey = BOB,
    root_seed: bytes | None = None,
    notices: tuple[Notice, ...] = (),
    **invite: object,
) -> JoinGrant:
    promised = msgspec.structs.replace(INVITE, **invite)
    return make_grant(issuer, MESH, REQUEST, joiner.id, NOW, 9, promised, root_seed=root_seed, notices=notices)


def revocation(number: int, at: int = NOW) -> Notice:
    kept = tuple(bytes([1, n, *bytes(30)]) for n in range(16))
    return BY_ROOT.notice(Revocation(MESH.id, number.to_bytes(32, "big"), at, kept))


def test_a_request_travels() -> None:
    assert JoinRequest.unpack(REQUEST.pack()) == REQUEST


def test_a_grant_travels() -> None:
    assert JoinGrant.unpack(GRANT.pack()) == GRANT


def test_the_joiner_is_a_member_afterwards() -> None:
    mesh, chain = accept_grant(JoinGrant.unpack(GRANT.pack()), MESH.id, BOB.id, NOW)
    assert mesh.secret == MESH.secret
    certificate, _ = check_chain(chain, BOB.id, MESH.id, NOW)
    assert (certificate.owner, certificate.serial) == ("bob", 9)


def test_a_member_that_may_invite_grants_as_well() -> None:
    issuer = Issuer(ALICE, MESH.id, alice_chain())
    assert len(accept_grant(grant(issuer), MESH.id, BOB.id, NOW)[1]) == 2


def test_a_request_for_another_node_is_refused() -> None:
    with pytest.raises(CertificateRefused, match="another node"):
        grant(joiner=CAROL)


def test_a_grant_for_another_mesh_is_refused() -> None:
    with pytest.raises(CertificateRefused, match="another mesh"):
        accept_grant(GRANT, FOREIGN_ROOT.mesh, BOB.id, NOW)


def test_a_grant_for_another_node_is_refused() -> None:
    with pytest.raises(CertificateRefused, match="another node's"):
        accept_grant(GRANT, MESH.id, CAROL.id, NOW)


def test_an_old_grant_is_refused() -> None:
    with pytest.raises(CertificateRefused, match="ended"):
        accept_grant(GRANT, MESH.id, BOB.id, NOW + 31 * DAY)


def test_one_message_is_not_taken_for_the_other() -> None:
    with pytest.raises(DecodeError):
        JoinRequest.unpack(GRANT.pack())
    with pytest.raises(DecodeError):
        JoinGrant.unpack(REQUEST.pack())


def test_a_request_cannot_say_whose_the_machine_is() -> None:
    with pytest.raises(DecodeError, match="owner"):
        JoinRequest.unpack(codec.encode({"t": "join", "id": BOB.public, "name": "laptop", "owner": "alice"}))


def test_roles_and_owner_are_what_the_invite_promised() -> None:
    chain = grant(roles=(Role.CLIENT,), owner="carol").chain
    certificate, _ = check_chain(chain, BOB.id, MESH.id, NOW)
    assert (certificate.roles, certificate.owner) == ((Role.CLIENT,), "carol")


def test_without_roles_an_invite_gives_all_that_can_be_given() -> None:
    assert set(check_chain(grant(roles=None).chain, BOB.id, MESH.id, NOW)[0].roles) == set(Role)


def test_what_the_inviter_can_give_no_more_is_not_given() -> None:
    with pytest.raises(CertificateRefused, match="cannot give invite"):
        grant(Issuer(ALICE, MESH.id, alice_chain()), roles=(Role.INVITE,))


class TestRoot:
    def test_it_goes_with_an_invite_made_for_it(self) -> None:
        accepted = JoinGrant.unpack(grant(root_seed=ROOT.seed, root=True).pack())
        accept_grant(accepted, MESH.id, BOB.id, NOW)
        assert accepted.root_seed == ROOT.seed

    def test_it_goes_with_no_other(self) -> None:
        assert grant(root_seed=ROOT.seed).root_seed is None

    def test_a_node_without_it_does_not_grant_half_of_what_was_promised(self) -> None:
        with pytest.raises(CertificateRefused, match="promised the root"):
            grant(root=True)

    def test_another_meshs_is_refused(self) -> None:
        wrong = msgspec.structs.replace(GRANT, root_seed=FOREIGN_ROOT.seed)
        with pytest.raises(CertificateRefused, match="root is another mesh's"):
            accept_grant(wrong, MESH.id, BOB.id, NOW)

    def test_it_is_not_shown(self) -> None:
        shown = repr(grant(root_seed=ROOT.seed, root=True))
        assert repr(ROOT.seed) not in shown and repr(MESH.secret) not in shown


class TestNotices:
    def test_the_newest_revocations_that_fit_go_along(self) -> None:
        full = grant(notices=tuple(revocation(n, NOW - n) for n in range(100)))
        assert len(full.pack()) <= MAX_GRANT_BYTES
        assert len(full.pack()) + len(revocation(0).pack()) > MAX_GRANT_BYTES
        assert full.notices == tuple(revocation(n, NOW - n) for n in range(len(full.notices)))
        assert JoinGrant.unpack(full.pack()) == full

    def test_short_ones_are_bounded_in_number(self) -> None:
        short = [Revocation(MESH.id, n.to_bytes(32, "big"), NOW) for n in range(MAX_NOTICES + 1)]
        full = grant(notices=tuple(map(BY_ROOT.notice, short)))
        assert 0 < len(full.notices) <= MAX_NOTICES
        assert JoinGrant.unpack(full.pack()) == full

    def test_rotations_are_in_the_mesh_already(self) -> None:
        assert grant(notices=(BY_ROOT.notice(Rotation(MESH.id, 1, b"n" * 32, NOW)),)).notices == ()


def test_a_message_that_is_too_long_is_not_read() -> None:
    with pytest.raises(DecodeError, match="at most 8192"):
        JoinGrant.unpack(GRANT.pack() + bytes(8192))
    with pytest.raises(DecodeError, match="at most 1024"):
        JoinRequest.unpack(REQUEST.pack() + bytes(1024))


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=200)
def test_anything_else_is_refused_and_nothing_worse(data: bytes) -> None:
    for message in (JoinGrant, JoinRequest):
        with pytest.raises(DecodeError):
            message.unpack(data)


def test_the_largest_grant_is_read() -> None:
    owner = "\N{GRINNING FACE}" * 64
    chain = Issuer(ALICE, MESH.id, BY_ROOT.issue(ALICE.id, NOW, 2**63 - 1, owner=owner)).issue(
        BOB.id, NOW, 2**63 - 1, owner=owner
    )
    older = tuple(OldSecret(bytes([n]) * 32, 2**41, 2**40, 2**40) for n in range(4))
    mesh = Mesh(ROOT.mesh, "\N{GRINNING FACE}" * 64, b"s" * 32, 2**41, older, 2**40)
    largest = JoinGrant(mesh, chain, ("a" * 128,) * 16, ROOT.seed)
    assert JoinGrant.unpack(largest.pack()) == largest
    assert len(largest.pack()) < MAX_GRANT_BYTES // 2 + 512

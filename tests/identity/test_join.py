from __future__ import annotations

import msgspec
import pytest

from meshnode.errors import CertificateRefused, DecodeError
from meshnode.identity import Issuer, JoinGrant, JoinRequest, accept_grant, check_chain, make_grant
from tests.identity.people import ALICE, BOB, BY_ROOT, CAROL, DAY, FOREIGN_ROOT, MESH, NOW, alice_chain

REQUEST = JoinRequest(BOB.id, "laptop", "bob")
GRANT = make_grant(BY_ROOT, MESH, REQUEST, BOB.id, now=NOW, serial=9, addresses=("192.168.1.5:6375",))


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
    grant = make_grant(issuer, MESH, REQUEST, BOB.id, now=NOW, serial=9)
    assert len(accept_grant(grant, MESH.id, BOB.id, NOW)[1]) == 2


def test_a_request_for_another_node_is_refused() -> None:
    with pytest.raises(CertificateRefused, match="another node"):
        make_grant(BY_ROOT, MESH, REQUEST, CAROL.id, now=NOW, serial=9)


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


def test_a_message_that_is_too_long_is_not_read() -> None:
    with pytest.raises(DecodeError, match="at most 4096"):
        JoinGrant.unpack(GRANT.pack() + bytes(4096))


def test_the_largest_grant_is_read() -> None:
    owner = "\N{GRINNING FACE}" * 64
    chain = Issuer(ALICE, MESH.id, BY_ROOT.issue(ALICE.id, NOW, 2**63 - 1, owner=owner)).issue(
        BOB.id, NOW, 2**63 - 1, owner=owner
    )
    grant = msgspec.structs.replace(GRANT, chain=chain, addresses=("a" * 128,) * 16)
    assert JoinGrant.unpack(grant.pack()) == grant


def test_a_grant_does_not_show_the_secret() -> None:
    assert repr(MESH.secret) not in repr(GRANT)

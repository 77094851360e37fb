from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.errors import CertificateRefused
from meshnode.identity import Issuer, MembershipCertificate, Role, pack_chain, unpack_chain
from meshnode.identity.certificates import MAX_CHAIN_BYTES, Chain
from tests.identity.people import ALICE, BOB, BY_ROOT, MESH, NOW, alice_chain, bob_chain


@pytest.mark.parametrize("roles", [(Role.SERVE, Role.CLIENT), (Role.SERVE, Role.SERVE)])
def test_roles_have_one_spelling(roles: tuple[Role, ...]) -> None:
    with pytest.raises(ValueError, match="sorted"):
        MembershipCertificate(ALICE.public, roles, "", NOW, NOW, 0, MESH.id, MESH.id)


@pytest.mark.parametrize("size", [1, 31])
def test_who_invited_is_an_id_or_nothing(size: int) -> None:
    with pytest.raises(ValueError, match="invited_by"):
        MembershipCertificate(ALICE.public, (), "", NOW, NOW, 0, MESH.id, MESH.id, bytes(size))


class TestPackedChain:
    @pytest.mark.parametrize("chain", [(), alice_chain(), bob_chain()])
    def test_it_travels(self, chain: Chain) -> None:
        assert unpack_chain(pack_chain(chain)) == chain

    def test_the_largest_is_read(self) -> None:
        owner = "\N{GRINNING FACE}" * 64
        top = BY_ROOT.issue(ALICE.id, 2**40 - 10**7, 2**63 - 1, owner=owner, invited_by=b"i" * 32)
        chain = Issuer(ALICE, MESH.id, top).issue(BOB.id, 2**40 - 10**7, 2**63 - 1, owner=owner, invited_by=b"i" * 32)
        assert 0 < MAX_CHAIN_BYTES - len(pack_chain(chain)) < 200
        assert unpack_chain(pack_chain(chain)) == chain

    @given(st.binary(max_size=300))
    @settings(deadline=None, max_examples=200)
    def test_anything_else_is_refused_and_nothing_worse(self, data: bytes) -> None:
        try:
            chain = unpack_chain(data)
        except CertificateRefused:
            return
        assert pack_chain(chain) == data

    def test_more_than_two_are_not_read(self) -> None:
        with pytest.raises(CertificateRefused, match="cannot be read"):
            unpack_chain(pack_chain((*bob_chain(), *alice_chain())))

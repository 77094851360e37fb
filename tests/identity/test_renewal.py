from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.errors import CertificateRefused
from meshnode.identity import (
    Barred,
    Issuer,
    NodeKey,
    Notices,
    Pins,
    Revocation,
    Role,
    Signed,
    Trust,
    TrustMode,
    accept_renewal,
    ask_renewal,
    pack_chain,
    renew,
)
from meshnode.identity.certificates import MEMBERSHIP_CONTEXT, Chain, read_membership
from meshnode.identity.renewal import MAX_REQUEST_BYTES, RENEWAL_CONTEXT
from meshnode.model import codec
from tests.identity.people import ALICE, BOB, BY_ROOT, CAROL, DAY, MESH, NOW, ROOT, alice_chain, bob_chain, membership

LATER = NOW + 16 * DAY
SERVANT = (Role.CLIENT, Role.RELAY, Role.SERVE)
DAVE = NodeKey.from_seed(b"d" * 32)

ALICE_RENEWED = BY_ROOT.issue(ALICE.id, LATER, 11, owner="alice")
BY_ALICE = Issuer(ALICE, MESH.id, ALICE_RENEWED)
BY_DAVE = Issuer(DAVE, MESH.id, BY_ROOT.issue(DAVE.id, LATER, 12))
CAROL_CHAIN = BY_ROOT.issue(CAROL.id, NOW, 5, roles=SERVANT, owner="carol")


def trusting(*revoked: NodeKey) -> Trust:
    notices = Notices(MESH.id)
    for node in revoked:
        notices.add(BY_ROOT.notice(Revocation(MESH.id, node.public, NOW)), NOW)
    return Trust(TrustMode.CA, MESH.id, DAVE.id, Pins(), notices)


def renewed(
    key: NodeKey, chain: Chain, issuer: Issuer = BY_ROOT, trust: Trust | None = None, asked: int = LATER
) -> Chain:
    return renew(ask_renewal(key, chain, asked), issuer, trust or trusting(), LATER, 99)


def refused(key: NodeKey, chain: Chain, why: str, issuer: Issuer = BY_ROOT, asked: int = LATER) -> None:
    with pytest.raises(CertificateRefused, match=why):
        renewed(key, chain, issuer, asked=asked)


class TestGiving:
    def test_only_the_time_changes(self) -> None:
        before = read_membership(CAROL_CHAIN[0])
        for issuer in (BY_ROOT, BY_ALICE):
            chain = renewed(CAROL, CAROL_CHAIN, issuer)
            after = read_membership(accept_renewal(pack_chain(chain), CAROL_CHAIN, MESH.id, CAROL.id, LATER)[0])
            assert (after.node, after.roles, after.owner) == (before.node, before.roles, before.owner)
            assert after.not_after == LATER + 30 * DAY

    def test_whoever_may_invite_is_renewed_by_the_root_alone(self) -> None:
        assert Role.INVITE in read_membership(renewed(ALICE, alice_chain())[0]).roles
        refused(ALICE, alice_chain(), "only the holder of the root", BY_DAVE)

    def test_a_member_renews_those_it_let_in(self) -> None:
        chain = renewed(BOB, bob_chain(), BY_ALICE)
        assert read_membership(accept_renewal(pack_chain(chain), bob_chain(), MESH.id, BOB.id, LATER)[0]).inviter == (
            ALICE.id
        )

    def test_a_member_does_not_take_over_anothers_people(self) -> None:
        refused(BOB, bob_chain(), "whoever invited or renewed it", BY_DAVE)
        refused(BOB, renewed(BOB, bob_chain()), "whoever invited or renewed it", BY_DAVE)

    def test_nobody_is_freed_of_its_inviter_by_what_that_one_signed(self) -> None:
        """Else an inviter's people would outlive its revocation: invited by the root, it says, and the root renews."""
        forged = membership(ALICE, MEMBERSHIP_CONTEXT, BOB, roles=SERVANT, invited_by=MESH.id, not_after=LATER + DAY)
        chain = (forged, *alice_chain())
        refused(BOB, chain, "whoever invited or renewed it", BY_DAVE)
        laundered = read_membership(renewed(BOB, chain)[0])
        assert laundered.inviter == ALICE.id
        assert trusting(ALICE)._notices.bars([laundered], BOB.id) is not None

    def test_the_root_renews_them_and_they_stay_their_inviters_people(self) -> None:
        chain = renewed(BOB, bob_chain())
        assert len(chain) == 1
        again = renew(ask_renewal(BOB, chain, LATER + DAY), BY_ROOT, trusting(), LATER + DAY, 100)
        for one in (chain, again):
            assert read_membership(one[0]).inviter == ALICE.id
            reason = trusting(ALICE)._notices.bars([read_membership(one[0])], BOB.id)
            assert reason is not None and "which invited" in reason

    def test_roles_that_the_issuer_lacks_are_not_given_nor_left_out(self) -> None:
        poor = Issuer(DAVE, MESH.id, BY_ROOT.issue(DAVE.id, LATER, 12, roles=[Role.INVITE, Role.CLIENT]))
        refused(CAROL, CAROL_CHAIN, "lacks some of these roles", poor)

    def test_one_who_ends_no_later_gives_nothing(self) -> None:
        refused(CAROL, CAROL_CHAIN, "ends no later", Issuer(ALICE, MESH.id, alice_chain()))


class TestAsking:
    def test_for_somebody_else(self) -> None:
        refused(DAVE, CAROL_CHAIN, "another node's")
        body = codec.encode([CAROL.public, CAROL_CHAIN, LATER])
        forged = codec.encode([body, DAVE.sign(RENEWAL_CONTEXT, body)])
        with pytest.raises(CertificateRefused, match="not signed by the node it is for"):
            renew(forged, BY_ROOT, trusting(), LATER, 1)

    def test_with_a_signature_made_for_something_else(self) -> None:
        body = codec.encode([CAROL.public, CAROL_CHAIN, LATER])
        with pytest.raises(CertificateRefused, match="not signed"):
            renew(codec.encode([body, CAROL.sign(MEMBERSHIP_CONTEXT, body)]), BY_ROOT, trusting(), LATER, 1)

    @pytest.mark.parametrize("asked", [LATER - 301, LATER + 301])
    def test_at_another_time(self, asked: int) -> None:
        refused(CAROL, CAROL_CHAIN, "is a clock wrong", asked=asked)

    @pytest.mark.parametrize("asked", [LATER - 300, LATER + 300])
    def test_a_clock_may_be_a_little_wrong(self, asked: int) -> None:
        assert renewed(CAROL, CAROL_CHAIN, asked=asked)

    def test_with_a_chain_that_has_ended(self) -> None:
        refused(CAROL, BY_ROOT.issue(CAROL.id, LATER - 31 * DAY, 1), "ended")

    def test_without_a_chain(self) -> None:
        refused(CAROL, (), "no membership")

    @pytest.mark.parametrize(("key", "chain"), [(BOB, bob_chain()), (BOB, renewed(BOB, bob_chain()))])
    @pytest.mark.parametrize("out", [ALICE, BOB])
    def test_by_somebody_who_is_out(self, key: NodeKey, chain: Chain, out: NodeKey) -> None:
        with pytest.raises(Barred, match="revoked"):
            renewed(key, chain, trust=trusting(out))

    def test_with_more_than_the_chain_gives(self) -> None:
        more = membership(CAROL, MEMBERSHIP_CONTEXT, CAROL, issuer=MESH.id, not_after=LATER + DAY)
        refused(CAROL, (more,), "signature")

    def test_in_a_mesh_without_certificates(self) -> None:
        tofu = Trust(TrustMode.PSK_TOFU, MESH.id, DAVE.id, Pins(), Notices(MESH.id))
        for chain in ((), CAROL_CHAIN):
            with pytest.raises(CertificateRefused):
                renewed(CAROL, chain, trust=tofu)

    @given(st.binary(max_size=400))
    @settings(deadline=None, max_examples=200)
    def test_with_anything_else(self, data: bytes) -> None:
        with pytest.raises(CertificateRefused, match="cannot be read"):
            renew(data, BY_ROOT, trusting(), LATER, 1)

    def test_every_bit_counts(self) -> None:
        request = ask_renewal(CAROL, CAROL_CHAIN, LATER)
        for bit in range(len(request) * 8):
            changed = bytearray(request)
            changed[bit // 8] ^= 1 << (bit % 8)
            with pytest.raises(CertificateRefused):
                renew(bytes(changed), BY_ROOT, trusting(), LATER, 1)

    def test_the_largest_request_is_read(self) -> None:
        owner = "\N{GRINNING FACE}" * 64
        top = BY_ROOT.issue(ALICE.id, LATER - DAY, 2**63 - 1, owner=owner)
        chain = Issuer(ALICE, MESH.id, top).issue(BOB.id, LATER - DAY, 2**63 - 1, owner=owner)
        request = ask_renewal(BOB, chain, LATER)
        assert len(request) <= MAX_REQUEST_BYTES
        assert renew(request, BY_ROOT, trusting(), LATER, 1)


class TestTaking:
    def accept(self, chain: Chain, why: str) -> None:
        with pytest.raises(CertificateRefused, match=why):
            accept_renewal(pack_chain(chain), CAROL_CHAIN, MESH.id, CAROL.id, LATER)

    def test_other_roles(self) -> None:
        self.accept(BY_ROOT.issue(CAROL.id, LATER, 1, roles=[Role.CLIENT], owner="carol"), "other roles")
        self.accept(BY_ROOT.issue(CAROL.id, LATER, 1, owner="carol"), "other roles")

    def test_another_owner(self) -> None:
        self.accept(BY_ROOT.issue(CAROL.id, LATER, 1, roles=SERVANT, owner="mallory"), "another owner")

    def test_another_node(self) -> None:
        self.accept(BY_ROOT.issue(BOB.id, LATER, 1, roles=SERVANT, owner="carol"), "another node's")

    def test_an_earlier_end_or_the_same(self) -> None:
        self.accept(CAROL_CHAIN, "no later")
        self.accept(BY_ROOT.issue(CAROL.id, NOW - DAY, 1, roles=SERVANT, owner="carol"), "no later")

    def test_a_forged_one(self) -> None:
        good = BY_ROOT.issue(CAROL.id, LATER, 1, roles=SERVANT, owner="carol")[0]
        self.accept((msgspec.structs.replace(good, signature=bytes(64)),), "signature")
        self.accept((Signed(good.body, ROOT.sign(RENEWAL_CONTEXT, good.body)),), "signature")

    @given(st.binary(max_size=300))
    @settings(deadline=None, max_examples=200)
    def test_anything_else(self, data: bytes) -> None:
        with pytest.raises(CertificateRefused):
            accept_renewal(data, CAROL_CHAIN, MESH.id, CAROL.id, LATER)

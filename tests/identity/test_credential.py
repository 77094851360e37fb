from __future__ import annotations

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meshnode.errors import CertificateRefused
from meshnode.identity import (
    Credential,
    LinkCertificate,
    Role,
    Signed,
    certify_link,
    check_join_payload,
    check_payload,
    pack_join_payload,
    pack_payload,
)
from meshnode.identity.certificates import LINK_CONTEXT, MEMBERSHIP_CONTEXT, Chain, read_membership
from meshnode.identity.credential import MAX_PAYLOAD_BYTES, Peer
from meshnode.model import codec
from meshnode.noise.handshake import MAX_PAYLOAD_BYTES as HANDSHAKE_TAKES
from tests.identity.people import (
    ALICE,
    BOB,
    BY_ROOT,
    CAROL,
    DAY,
    FOREIGN_ROOT,
    MESH,
    NOW,
    ROOT,
    X25519,
    alice_chain,
    bob_chain,
    membership,
)

SERVANT = (Role.CLIENT, Role.RELAY, Role.SERVE)
LINK = certify_link(BOB, X25519, MESH.id, NOW)


def check(payload: bytes, now: int = NOW) -> Peer:
    return check_payload(payload, X25519, MESH.id, now, CAROL.id)


def refused(payload: bytes, why: str, now: int = NOW) -> None:
    with pytest.raises(CertificateRefused, match=why):
        check(payload, now)


def bob_with(*chain: Signed) -> bytes:
    return pack_payload(LINK, chain)


def by_root(**changes: object) -> Signed:
    return membership(ROOT, MEMBERSHIP_CONTEXT, BOB, **changes)


def forged(signed: Signed) -> Signed:
    return msgspec.structs.replace(signed, signature=bytes(64))


def test_a_member_invited_by_the_root_is_known() -> None:
    peer = check_payload(
        pack_payload(certify_link(ALICE, X25519, MESH.id, NOW), alice_chain()), X25519, MESH.id, NOW, BOB.id
    )
    assert (peer.node, peer.owner, peer.roles) == (ALICE.id, "alice", frozenset(Role))
    assert peer.chain == alice_chain() and peer.may(Role.INVITE)
    assert peer.invited_by == MESH.id
    assert peer.until == NOW + DAY


def test_a_member_invited_by_a_member_is_known() -> None:
    peer = check(pack_payload(LINK, bob_chain()))
    assert (peer.node, peer.owner, peer.invited_by) == (BOB.id, "bob", ALICE.id)
    assert not peer.may(Role.INVITE)


def test_the_peer_is_known_until_the_first_certificate_ends() -> None:
    assert check(bob_with(by_root(not_after=NOW + 60))).until == NOW + 60


def test_the_largest_credential_fits_a_handshake_message() -> None:
    owner = "\N{GRINNING FACE}" * 64
    more = {"owner": owner, "serial": 2**63 - 1, "invited_by": CAROL.public}
    top = membership(ROOT, MEMBERSHIP_CONTEXT, ALICE, **more)
    leaf = membership(ALICE, MEMBERSHIP_CONTEXT, BOB, roles=SERVANT, **more)
    payload = pack_payload(LINK, (leaf, top), owner)
    assert len(payload) <= MAX_PAYLOAD_BYTES == HANDSHAKE_TAKES
    assert check(payload).node == BOB.id


def test_a_credential_that_does_not_fit_is_not_packed() -> None:
    with pytest.raises(CertificateRefused, match="at most 1952"):
        pack_payload(LINK, (by_root(owner="o" * 64),) * 8)


class TestLink:
    def test_a_wrong_signature(self) -> None:
        refused(pack_payload(forged(LINK), bob_chain()), "link certificate's signature")

    def test_a_signature_of_another_kind_of_certificate(self) -> None:
        mixed = Signed(LINK.body, BOB.sign(MEMBERSHIP_CONTEXT, LINK.body))
        refused(pack_payload(mixed, bob_chain()), "link certificate's signature")

    def test_a_stolen_certificate_without_its_handshake_key(self) -> None:
        with pytest.raises(CertificateRefused, match="another handshake key"):
            check_payload(pack_payload(LINK, bob_chain()), b"y" * 32, MESH.id, NOW, CAROL.id)

    def test_another_mesh(self) -> None:
        link = certify_link(BOB, X25519, FOREIGN_ROOT.mesh, NOW)
        refused(pack_payload(link, bob_chain()), "link certificate is for another mesh")

    @pytest.mark.parametrize("skew", [-300, 0, DAY])
    def test_within_its_time(self, skew: int) -> None:
        assert check(pack_payload(LINK, (by_root(not_before=NOW - 300),)), NOW + skew).node == BOB.id

    def test_before_its_time(self) -> None:
        refused(pack_payload(LINK, bob_chain()), "link certificate begins in 1 s", NOW - 301)

    def test_after_its_time(self) -> None:
        refused(pack_payload(LINK, bob_chain()), "link certificate ended 1 s ago", NOW + DAY + 1)

    def test_one_made_for_longer_than_a_day(self) -> None:
        body = codec.encode(LinkCertificate(BOB.public, X25519, NOW - 300, NOW + DAY + 1, MESH.id))
        refused(pack_payload(Signed(body, BOB.sign(LINK_CONTEXT, body)), bob_chain()), "for too long")

    def test_this_node_itself(self) -> None:
        with pytest.raises(CertificateRefused, match="itself"):
            check_payload(pack_payload(LINK, bob_chain()), X25519, MESH.id, NOW, BOB.id)

    def test_another_node_than_the_one_dialled(self) -> None:
        with pytest.raises(CertificateRefused, match="was expected"):
            check_payload(pack_payload(LINK, bob_chain()), X25519, MESH.id, NOW, CAROL.id, expected=ALICE.id)


class TestChain:
    def test_none(self) -> None:
        refused(pack_join_payload(LINK), "no membership")

    def test_a_wrong_signature(self) -> None:
        refused(bob_with(forged(by_root())), "membership certificate's signature")

    def test_a_wrong_signature_of_the_inviter(self) -> None:
        leaf, top = bob_chain()
        refused(bob_with(leaf, forged(top)), "membership certificate's signature")

    def test_a_signature_of_another_kind_of_certificate(self) -> None:
        refused(bob_with(membership(ROOT, LINK_CONTEXT, BOB)), "membership certificate's signature")

    def test_another_mesh(self) -> None:
        refused(bob_with(by_root(mesh=FOREIGN_ROOT.mesh)), "membership certificate is for another mesh")

    def test_before_its_time(self) -> None:
        refused(bob_with(by_root(not_before=NOW + 9)), "membership certificate begins in 9 s")

    def test_after_its_time(self) -> None:
        refused(bob_with(by_root(not_after=NOW - 1)), "membership certificate ended 1 s ago")

    def test_an_inviter_whose_time_is_over(self) -> None:
        top = membership(ROOT, MEMBERSHIP_CONTEXT, ALICE, not_after=NOW - 5)
        refused(bob_with(membership(ALICE, MEMBERSHIP_CONTEXT, BOB, roles=SERVANT), top), "certificate ended 5 s ago")

    def test_one_made_for_longer_than_thirty_days(self) -> None:
        refused(bob_with(by_root(not_after=NOW + 30 * DAY + 1)), "for too long")

    def test_somebody_elses(self) -> None:
        refused(bob_with(*alice_chain()), "another node's")

    def test_too_long(self) -> None:
        chain: Chain = (membership(CAROL, MEMBERSHIP_CONTEXT, BOB), membership(ALICE, MEMBERSHIP_CONTEXT, CAROL))
        refused(bob_with(*chain, *alice_chain()), "too long")

    def test_a_root_that_is_not_ours(self) -> None:
        refused(bob_with(membership(FOREIGN_ROOT, MEMBERSHIP_CONTEXT, BOB)), "does not end at the root")

    def test_signed_by_itself(self) -> None:
        refused(bob_with(membership(BOB, MEMBERSHIP_CONTEXT, BOB)), "does not end at the root")

    def test_broken_in_the_middle(self) -> None:
        refused(bob_with(membership(CAROL, MEMBERSHIP_CONTEXT, BOB), *alice_chain()), "chain is broken")

    def test_a_certificate_too_many(self) -> None:
        refused(bob_with(by_root(), *alice_chain()), "chain is broken")

    def test_an_inviter_without_the_role(self) -> None:
        top = membership(ROOT, MEMBERSHIP_CONTEXT, ALICE, roles=(Role.CLIENT, Role.RELAY, Role.SERVE))
        leaf = membership(ALICE, MEMBERSHIP_CONTEXT, BOB, roles=(Role.CLIENT,))
        refused(bob_with(leaf, top), "lacks the role invite")

    def test_the_role_to_invite_comes_from_the_root_alone(self) -> None:
        leaf = membership(ALICE, MEMBERSHIP_CONTEXT, BOB, roles=(Role.INVITE, Role.SERVE))
        refused(bob_with(leaf, *alice_chain()), "role invite was given by a member")

    def test_an_inviter_that_gave_more_than_it_has(self) -> None:
        top = membership(ROOT, MEMBERSHIP_CONTEXT, ALICE, roles=(Role.CLIENT, Role.INVITE))
        leaf = membership(ALICE, MEMBERSHIP_CONTEXT, BOB, roles=(Role.CLIENT, Role.SERVE))
        refused(bob_with(leaf, top), "lacks a role that it gave")


class TestName:
    def test_it_comes_with_the_credential(self) -> None:
        assert check(pack_payload(LINK, bob_chain(), "bob's laptop")).name == "bob's laptop"

    def test_what_others_would_refuse_is_left_out_before_it_is_sent(self) -> None:
        assert check(pack_payload(LINK, bob_chain(), "\x1b[31m" + "b" * 100)).name == "[31m" + "b" * 60

    @pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "a\u202eb", "a\u200bb", "\ue000"])
    def test_one_that_could_not_be_shown_is_refused(self, name: str) -> None:
        refused(codec.encode(Credential(LINK, bob_chain(), name)), "cannot be printed")

    def test_one_that_is_too_long_is_refused(self) -> None:
        refused(codec.encode(Credential(LINK, bob_chain(), "b" * 65)), "cannot be read")


class TestBytes:
    @given(st.binary(max_size=300))
    @example(b"")
    @settings(deadline=None, max_examples=100)
    def test_anything_at_all_is_refused_and_nothing_else(self, payload: bytes) -> None:
        refused(payload, "credential cannot be read")

    def test_every_bit_counts(self) -> None:
        payload = pack_payload(LINK, bob_chain())
        for bit in range(len(payload) * 8):
            changed = bytearray(payload)
            changed[bit // 8] ^= 1 << (bit % 8)
            with pytest.raises(CertificateRefused):
                check(bytes(changed))

    def test_a_certificate_of_other_fields(self) -> None:
        body = codec.encode(["not", "a", "certificate"])
        refused(pack_payload(Signed(body, bytes(64)), ()), "certificate cannot be read")

    def test_a_payload_longer_than_a_handshake_takes(self) -> None:
        refused(codec.encode(Credential(LINK, (by_root(owner="o" * 64),) * 8)), "cannot be read")


class TestJoiner:
    def test_it_proves_its_key(self) -> None:
        assert check_join_payload(pack_join_payload(LINK), X25519, MESH.id, NOW, ALICE.id).node == BOB.id

    def test_it_has_no_roles(self) -> None:
        peer = check_join_payload(pack_join_payload(LINK, "laptop"), X25519, MESH.id, NOW, ALICE.id)
        assert (peer.name, peer.roles, peer.chain, peer.certificate, peer.invited_by) == (
            "laptop", frozenset(), (), None, None
        )  # fmt: skip

    def test_it_is_no_member(self) -> None:
        with pytest.raises(CertificateRefused, match="no membership"):
            check_join_payload(pack_payload(LINK, bob_chain()), X25519, MESH.id, NOW, ALICE.id)

    @pytest.mark.parametrize(
        ("static", "mesh", "now", "myself", "why"),
        [
            (b"y" * 32, MESH.id, NOW, ALICE.id, "another handshake key"),
            (X25519, FOREIGN_ROOT.mesh, NOW, ALICE.id, "another mesh"),
            (X25519, MESH.id, NOW + 2 * DAY, ALICE.id, "ended"),
            (X25519, MESH.id, NOW, BOB.id, "itself"),
        ],
    )
    def test_its_link_certificate_is_judged(
        self, static: bytes, mesh: bytes, now: int, myself: object, why: str
    ) -> None:
        with pytest.raises(CertificateRefused, match=why):
            check_join_payload(pack_join_payload(LINK), static, mesh, now, myself)  # type: ignore[arg-type]


def test_the_root_can_be_a_members_issuer_for_any_number_of_nodes() -> None:
    for number in range(3):
        assert check(pack_payload(LINK, BY_ROOT.issue(BOB.id, NOW, number))).certificate == read_membership(
            BY_ROOT.issue(BOB.id, NOW, number)[0]
        )

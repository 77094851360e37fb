from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.errors import CertificateRefused, IdentityError
from meshnode.identity import (
    Barred,
    Issuer,
    NodeKey,
    Notices,
    Pins,
    Revocation,
    Role,
    Trust,
    TrustMode,
    certify_link,
    new_tofu_secret,
    pack_chain,
    pack_join_payload,
    pack_payload,
    tofu_mesh,
    trust,
)
from meshnode.identity.certificates import Chain
from tests.identity.people import ALICE, BOB, BY_ROOT, CAROL, DAY, MESH, NOW, X25519, alice_chain, bob_chain

TOFU = tofu_mesh(new_tofu_secret(b"t" * 32))
NO_PINS = Pins()
MALLORY = NodeKey.from_seed(b"m" * 32)


def trusting(mode: TrustMode = TrustMode.CA, pins: Pins = NO_PINS, notices: Notices | None = None) -> Trust:
    mesh = TOFU.id if mode is TrustMode.PSK_TOFU else MESH.id
    return Trust(mode, mesh, CAROL.id, pins, notices or Notices(mesh))


def payload(node: NodeKey, chain: Chain, name: str = "box", mesh: bytes = MESH.id) -> bytes:
    return pack_payload(certify_link(node, X25519, mesh, NOW), chain, name)


def meets(judge: Trust, node: NodeKey, name: str = "box") -> None:
    """A handshake in psk-tofu."""
    judge.check_member(payload(node, (), name, TOFU.id), X25519, NOW)


def revoked(*nodes: NodeKey) -> Notices:
    notices = Notices(MESH.id)
    for node in nodes:
        notices.add(BY_ROOT.notice(Revocation(MESH.id, node.public, NOW)), NOW)
    return notices


class TestCertificates:
    def test_a_chain_to_the_root_is_enough(self) -> None:
        peer = trusting().check_member(payload(BOB, bob_chain()), X25519, NOW, expected=BOB.id)
        assert (peer.node, peer.name, peer.owner) == (BOB.id, "box", "bob")
        assert peer.until == NOW + DAY

    def test_another_than_was_dialled_is_refused(self) -> None:
        with pytest.raises(CertificateRefused, match="was expected"):
            trusting().check_member(payload(BOB, bob_chain()), X25519, NOW, expected=ALICE.id)

    @pytest.mark.parametrize("out", [ALICE, BOB])
    def test_whoever_was_revoked_is_out_and_whom_it_invited(self, out: NodeKey) -> None:
        judge = trusting(notices=revoked(out))
        with pytest.raises(Barred, match="was revoked"):
            judge.check_member(payload(BOB, bob_chain()), X25519, NOW)
        with pytest.raises(Barred, match="was revoked"):
            judge.judge_advert(BOB.id, "box", pack_chain(bob_chain()), NOW)

    def test_whoever_is_barred_here_is_out_until_forgotten(self) -> None:
        judge = trusting()
        assert judge.bar(BOB.id)
        with pytest.raises(Barred, match="barred at this node"):
            judge.check_member(payload(BOB, bob_chain()), X25519, NOW)
        assert judge.forget(BOB.id)
        judge.check_member(payload(BOB, bob_chain()), X25519, NOW)

    def test_names_are_not_pinned(self) -> None:
        judge = trusting()
        judge.check_member(payload(BOB, bob_chain()), X25519, NOW)
        judge.check_member(payload(ALICE, alice_chain()), X25519, NOW)
        judge.pin(BOB.id, "box")
        assert judge.pins.names == ()


class TestPinned:
    def test_a_certificate_alone_is_not_enough(self) -> None:
        with pytest.raises(Barred, match=r"not pinned here: .*peers trust"):
            trusting(TrustMode.PINNED).check_member(payload(BOB, bob_chain()), X25519, NOW)

    def test_nor_is_a_pin(self) -> None:
        judge = trusting(TrustMode.PINNED, Pins((BOB.public,)))
        for chain in ((), alice_chain()):
            with pytest.raises(CertificateRefused):
                judge.check_member(payload(BOB, chain), X25519, NOW)
        with pytest.raises(CertificateRefused):
            judge.judge_advert(BOB.id, "box", b"", NOW)

    def test_nor_does_a_pin_stand_against_a_revocation(self) -> None:
        judge = trusting(TrustMode.PINNED, Pins((BOB.public,)), revoked(BOB))
        with pytest.raises(Barred, match="was revoked"):
            judge.check_member(payload(BOB, bob_chain()), X25519, NOW)

    def test_both_are(self) -> None:
        judge = trusting(TrustMode.PINNED)
        assert judge.pin(BOB.id)
        assert judge.check_member(payload(BOB, bob_chain()), X25519, NOW).node == BOB.id
        assert judge.judge_advert(BOB.id, "box", pack_chain(bob_chain()), NOW).node == BOB.id
        assert judge.forget(BOB.id)
        with pytest.raises(Barred, match="not pinned"):
            judge.judge_advert(BOB.id, "box", pack_chain(bob_chain()), NOW)

    def test_this_node_needs_no_pin_of_its_own(self) -> None:
        chain = BY_ROOT.issue(CAROL.id, NOW, 3)
        assert trusting(TrustMode.PINNED).judge_advert(CAROL.id, "me", pack_chain(chain), NOW).node == CAROL.id


class TestJoiner:
    @pytest.mark.parametrize("mode", [TrustMode.CA, TrustMode.PINNED])
    def test_it_is_known_and_has_no_roles(self, mode: TrustMode) -> None:
        join = pack_join_payload(certify_link(BOB, X25519, MESH.id, NOW), "laptop")
        peer = trusting(mode).check_joiner(join, X25519, NOW)
        assert (peer.node, peer.name, peer.roles, peer.chain) == (BOB.id, "laptop", frozenset(), ())

    def test_an_invite_lets_nobody_back_in(self) -> None:
        join = pack_join_payload(certify_link(BOB, X25519, MESH.id, NOW))
        with pytest.raises(Barred, match="was revoked"):
            trusting(notices=revoked(BOB)).check_joiner(join, X25519, NOW)
        judge = trusting()
        judge.bar(BOB.id)
        with pytest.raises(Barred, match="barred"):
            judge.check_joiner(join, X25519, NOW)

    def test_nobody_joins_without_a_root(self) -> None:
        join = pack_join_payload(certify_link(BOB, X25519, TOFU.id, NOW))
        with pytest.raises(CertificateRefused, match=r"copy its mesh.secret"):
            trusting(TrustMode.PSK_TOFU).check_joiner(join, X25519, NOW)


class TestAdverts:
    CHAIN = pack_chain(bob_chain())

    def test_signatures_are_judged_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        judge, calls = trusting(), []
        real = trust.verify_chain
        monkeypatch.setattr(trust, "verify_chain", lambda *given: calls.append(given) or real(*given))
        for name in ("box", "renamed"):
            assert judge.judge_advert(BOB.id, name, self.CHAIN, NOW).name == name
        assert len(calls) == 1

    def test_time_is_judged_each_time(self) -> None:
        judge = trusting()
        judge.judge_advert(BOB.id, "box", self.CHAIN, NOW)
        with pytest.raises(CertificateRefused, match="ended"):
            judge.judge_advert(BOB.id, "box", self.CHAIN, NOW + 31 * DAY)
        judge.judge_advert(BOB.id, "box", self.CHAIN, NOW)

    def test_revocations_are_judged_each_time(self) -> None:
        notices = Notices(MESH.id)
        judge = trusting(notices=notices)
        judge.judge_advert(BOB.id, "box", self.CHAIN, NOW)
        notices.add(BY_ROOT.notice(Revocation(MESH.id, ALICE.public, NOW)), NOW)
        with pytest.raises(Barred):
            judge.judge_advert(BOB.id, "box", self.CHAIN, NOW)

    def test_a_remembered_chain_is_its_nodes_alone(self) -> None:
        judge = trusting()
        judge.judge_advert(BOB.id, "box", self.CHAIN, NOW)
        with pytest.raises(CertificateRefused, match="another node's"):
            judge.judge_advert(ALICE.id, "box", self.CHAIN, NOW)

    def test_what_is_remembered_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(trust, "MAX_CACHED", 3)
        judge = trusting()
        for serial in range(9):
            judge.judge_advert(BOB.id, "box", pack_chain(BY_ROOT.issue(BOB.id, NOW, serial)), NOW)
        assert len(judge._verified) == 3

    def test_a_forged_chain_is_not_remembered(self) -> None:
        judge = trusting()
        leaf, top = bob_chain()
        for _ in range(2):
            with pytest.raises(CertificateRefused, match="signature"):
                judge.judge_advert(BOB.id, "box", pack_chain((type(leaf)(leaf.body, bytes(64)), top)), NOW)
        assert not judge._verified

    @given(st.binary(max_size=200))
    @settings(deadline=None, max_examples=200)
    def test_anything_else_is_refused_and_nothing_worse(self, data: bytes) -> None:
        with pytest.raises(CertificateRefused):
            trusting().judge_advert(BOB.id, "box", data, NOW)
        with pytest.raises(CertificateRefused):
            trusting().check_member(data, X25519, NOW)
        with pytest.raises(CertificateRefused):
            trusting().check_joiner(data, X25519, NOW)

    def test_a_name_that_cannot_be_shown_is_refused(self) -> None:
        with pytest.raises(CertificateRefused, match="printed"):
            trusting().judge_advert(BOB.id, "a\x1b[2J", self.CHAIN, NOW)


class TestTofu:
    def test_the_secret_makes_a_member_with_all_roles_but_to_invite(self) -> None:
        peer = trusting(TrustMode.PSK_TOFU).check_member(payload(BOB, (), "box", TOFU.id), X25519, NOW)
        assert (peer.node, peer.name, peer.certificate, peer.chain, peer.owner) == (BOB.id, "box", None, (), "")
        assert peer.roles == {Role.CLIENT, Role.RELAY, Role.SERVE}

    def test_a_name_is_pinned_on_first_use(self) -> None:
        judge = trusting(TrustMode.PSK_TOFU)
        before = judge.pins
        meets(judge, BOB)
        after = judge.pins
        assert before is not after and after.names == (("box", BOB.public),)
        meets(judge, BOB)
        assert judge.pins is after

    @pytest.mark.parametrize("name", ["box", "BOX", "box ", "\uff42ox", "box\ufe0f"])
    def test_another_key_under_a_pinned_name_is_refused(self, name: str) -> None:
        judge = trusting(TrustMode.PSK_TOFU)
        meets(judge, BOB)
        with pytest.raises(Barred, match="somebody poses as that machine"):
            meets(judge, MALLORY, name)
        with pytest.raises(Barred):
            judge.judge_advert(MALLORY.id, name, b"", NOW)
        restarted = trusting(TrustMode.PSK_TOFU, judge.pins)
        with pytest.raises(Barred):
            meets(restarted, MALLORY, name)
        assert restarted.forget(BOB.id)
        meets(restarted, MALLORY, name)

    def test_this_nodes_own_name_can_be_kept(self) -> None:
        judge = trusting(TrustMode.PSK_TOFU)
        assert judge.pin(CAROL.id, "here")
        assert not judge.pin(CAROL.id, "here")
        with pytest.raises(Barred):
            meets(judge, MALLORY, "Here")

    def test_an_advert_pins_nothing(self) -> None:
        judge = trusting(TrustMode.PSK_TOFU)
        before = judge.pins
        assert judge.judge_advert(BOB.id, "box", b"", NOW).may(Role.SERVE)
        assert judge.pins is before

    def test_who_is_refused_pins_nothing(self) -> None:
        judge = trusting(TrustMode.PSK_TOFU)
        before = judge.pins
        judge.bar(MALLORY.id)
        barred = judge.pins
        with pytest.raises(Barred):
            meets(judge, MALLORY)
        with pytest.raises(CertificateRefused, match="was expected"):
            judge.check_member(payload(BOB, (), "box", TOFU.id), X25519, NOW, expected=ALICE.id)
        assert judge.pins is barred and before.names == ()

    def test_nobody_is_without_a_name(self) -> None:
        with pytest.raises(CertificateRefused, match="no name"):
            meets(trusting(TrustMode.PSK_TOFU), BOB, "")

    def test_certificates_mean_nothing_here(self) -> None:
        judge = trusting(TrustMode.PSK_TOFU)
        chain = Issuer(NodeKey.from_seed(b"x" * 32), MESH.id, alice_chain()).issue(BOB.id, NOW, 1)
        with pytest.raises(CertificateRefused, match=r"mesh\.trust the same"):
            judge.check_member(payload(BOB, chain, "box", TOFU.id), X25519, NOW)
        with pytest.raises(CertificateRefused, match=r"mesh\.trust the same"):
            judge.judge_advert(BOB.id, "box", pack_chain(chain), NOW)

    def test_a_node_of_another_mesh_is_refused(self) -> None:
        with pytest.raises(CertificateRefused, match="another mesh"):
            trusting(TrustMode.PSK_TOFU).check_member(payload(BOB, ()), X25519, NOW)


def test_a_mode_is_what_the_configuration_says() -> None:
    assert {mode.value for mode in TrustMode} == {"ca", "pinned", "psk-tofu"}
    assert issubclass(Barred, CertificateRefused) and issubclass(Barred, IdentityError)

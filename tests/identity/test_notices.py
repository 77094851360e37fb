from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.errors import CertificateRefused, DecodeError
from meshnode.identity import Issuer, MembershipCertificate, Mesh, NodeKey, Notice, Notices, Revocation, Role, Rotation
from meshnode.identity.certificates import MEMBERSHIP_CONTEXT, Chain, read_membership
from meshnode.identity.notices import MAX_FROM_ONE_MEMBER, MAX_REVOCATIONS, MAX_ROTATIONS, MEMBERS_KEPT_S, ROOTS_KEPT_S
from meshnode.identity.statements import NOTICE_CONTEXT, ROOT_LEAD
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
    alice_chain,
    bob_chain,
    membership,
)

DAVE = NodeKey.from_seed(b"d" * 32)
SERVANT = (Role.CLIENT, Role.RELAY, Role.SERVE)
BY_ALICE = Issuer(ALICE, MESH.id, alice_chain())
DAVE_CHAIN = BY_ROOT.issue(DAVE.id, NOW, 4)
BY_DAVE = Issuer(DAVE, MESH.id, DAVE_CHAIN)
CAROL_CHAIN = BY_ROOT.issue(CAROL.id, NOW, 5, roles=SERVANT)


def out(node: NodeKey | bytes, at: int = NOW, kept: tuple[NodeKey, ...] = ()) -> Revocation:
    key = node if isinstance(node, bytes) else node.public
    return Revocation(MESH.id, key, at, tuple(one.public for one in kept))


def new(generation: int, letter: str, at: int = NOW) -> Rotation:
    return Rotation(MESH.id, generation, letter.encode() * 32, at)


def certificates(chain: Chain) -> list[MembershipCertificate]:
    return [read_membership(signed) for signed in chain]


def believing(*notices: Notice) -> Notices:
    found = Notices(MESH.id)
    for notice in notices:
        assert found.add(notice, NOW) == notice.statement
    return found


def refused(notice: Notice, why: str, now: int = NOW, found: Notices | None = None) -> None:
    found = found or Notices(MESH.id)
    before = found.all()
    with pytest.raises(CertificateRefused, match=why):
        found.add(notice, now)
    assert found.all() == before


class TestWhoIsOut:
    def test_whom_the_root_revokes(self) -> None:
        found = believing(BY_ROOT.notice(out(ALICE)))
        assert "was revoked" in str(found.bars(certificates(alice_chain()), ALICE.id))
        assert found.revoked() == {ALICE.id}

    def test_those_whom_a_revoked_node_invited(self) -> None:
        found = believing(BY_ROOT.notice(out(ALICE)))
        assert f"{ALICE.id.short}, which invited" in str(found.bars(certificates(bob_chain()), BOB.id))

    def test_but_not_those_that_are_kept(self) -> None:
        found = believing(BY_ROOT.notice(out(ALICE, kept=(BOB,))))
        assert found.bars(certificates(bob_chain()), BOB.id) is None
        carol = BY_ALICE.issue(CAROL.id, NOW, 9)
        assert found.bars(certificates(carol), CAROL.id) is not None

    def test_those_whom_it_invited_though_the_root_has_renewed_them(self) -> None:
        renewed = certificates(BY_ROOT.issue(BOB.id, NOW, 3, roles=SERVANT, invited_by=ALICE.public))
        assert believing(BY_ROOT.notice(out(ALICE))).bars(renewed, BOB.id) is not None
        assert believing(BY_ROOT.notice(out(ALICE, kept=(BOB,)))).bars(renewed, BOB.id) is None

    def test_whom_a_member_revokes(self) -> None:
        found = believing(BY_ALICE.notice(out(CAROL)))
        assert f"was revoked by {ALICE.id.short}" in str(found.bars(certificates(CAROL_CHAIN), CAROL.id))

    def test_but_a_member_does_not_bar_another_that_may_invite(self) -> None:
        found = believing(BY_ALICE.notice(out(DAVE)))
        assert found.bars(certificates(DAVE_CHAIN), DAVE.id) is None
        invited = BY_DAVE.issue(BOB.id, NOW, 6)
        assert found.bars(certificates(invited), BOB.id) is None

    def test_nor_does_whoever_made_itself_an_inviter_escape(self) -> None:
        # Alice gives Bob what is not hers to give; as a chain it is refused, and so it shields nobody.
        leaf = membership(ALICE, MEMBERSHIP_CONTEXT, BOB)
        with pytest.raises(CertificateRefused, match="given by a member"):
            Notices(MESH.id).add(Notice(BY_ROOT.notice(out(CAROL)).body, bytes(64), (leaf, *alice_chain())), NOW)

    def test_a_joiner_is_judged_without_certificates(self) -> None:
        assert believing(BY_ALICE.notice(out(CAROL))).bars((), CAROL.id) is not None
        assert believing(BY_ROOT.notice(out(CAROL))).bars((), CAROL.id) is not None
        assert Notices(MESH.id).bars((), CAROL.id) is None


class TestWhoIsBelieved:
    def test_known_ones_are_no_news(self) -> None:
        found = believing(BY_ROOT.notice(out(ALICE)), BY_DAVE.notice(out(CAROL)), BY_ROOT.notice(new(1, "n")))
        for notice in found.all():
            assert found.add(notice, NOW) is None

    def test_a_forged_signature(self) -> None:
        notice = BY_ROOT.notice(out(ALICE))
        refused(msgspec.structs.replace(notice, signature=bytes(64)), "signature is wrong")

    def test_a_member_that_speaks_as_the_root(self) -> None:
        body = BY_ROOT.notice(out(DAVE)).body
        refused(Notice(body, ALICE.sign(NOTICE_CONTEXT, body)), "signature is wrong")

    def test_a_member_with_anothers_chain(self) -> None:
        body = BY_ROOT.notice(out(CAROL)).body
        refused(Notice(body, BOB.sign(NOTICE_CONTEXT, body), alice_chain()), "signature is wrong")

    def test_a_signature_made_for_something_else(self) -> None:
        body = BY_ROOT.notice(out(ALICE)).body
        refused(Notice(body, ROOT.sign(MEMBERSHIP_CONTEXT, body)), "signature is wrong")

    def test_a_member_that_may_not_invite(self) -> None:
        body = BY_ROOT.notice(out(DAVE)).body
        refused(Notice(body, CAROL.sign(NOTICE_CONTEXT, body), CAROL_CHAIN), "lacks the role invite")

    def test_one_that_a_member_invited(self) -> None:
        body = BY_ROOT.notice(out(CAROL)).body
        refused(Notice(body, BOB.sign(NOTICE_CONTEXT, body), bob_chain()[:1]), "does not end at the root")

    def test_a_chain_of_another_root(self) -> None:
        chain = Issuer(FOREIGN_ROOT, FOREIGN_ROOT.mesh).issue(ALICE.id, NOW, 1)
        body = BY_ROOT.notice(out(CAROL)).body
        refused(Notice(body, ALICE.sign(NOTICE_CONTEXT, body), chain), "another mesh")

    def test_another_mesh(self) -> None:
        foreign = Issuer(FOREIGN_ROOT, FOREIGN_ROOT.mesh)
        refused(foreign.notice(Revocation(FOREIGN_ROOT.mesh, ALICE.public, NOW)), "another mesh")

    def test_one_key_that_is_root_of_nothing_here(self) -> None:
        body = BY_ROOT.notice(out(ALICE)).body
        refused(Notice(body, FOREIGN_ROOT.sign(NOTICE_CONTEXT, body)), "signature is wrong")

    def test_a_member_whose_membership_had_ended_or_not_begun(self) -> None:
        refused(BY_ALICE.notice(out(CAROL, NOW + 31 * DAY)), "ended", NOW + 31 * DAY)
        refused(BY_ALICE.notice(out(CAROL, NOW - DAY)), "begins")

    def test_a_members_word_outlives_its_membership(self) -> None:
        notice = BY_ALICE.notice(out(CAROL))
        assert Notices(MESH.id).add(notice, NOW + 40 * DAY) == notice.statement

    def test_the_future(self) -> None:
        assert Notices(MESH.id).add(BY_ROOT.notice(out(ALICE, NOW + 300)), NOW)
        refused(BY_ROOT.notice(out(ALICE, NOW + 301)), "301 s ahead")

    def test_a_member_whom_the_root_has_revoked(self) -> None:
        found = believing(BY_ROOT.notice(out(ALICE)))
        refused(BY_ALICE.notice(out(CAROL)), "who was revoked", found=found)
        refused(BY_ALICE.notice(new(1, "n")), "who was revoked", found=found)

    def test_the_root_itself_cannot_be_revoked(self) -> None:
        refused(BY_ROOT.notice(out(MESH.id)), "root of a mesh")

    def test_a_member_keeps_nobody(self) -> None:
        refused(BY_ALICE.notice(out(CAROL, kept=(BOB,))), "none to keep")


class TestWhatARevokedInviterSaid:
    def test_counts_no_more(self) -> None:
        found = believing(BY_ALICE.notice(out(CAROL)), BY_DAVE.notice(out(BOB)), BY_ALICE.notice(new(7, "x")))
        assert found.by_member(ALICE.id) == (out(CAROL),)
        found.add(BY_ROOT.notice(out(ALICE)), NOW)
        assert found.revoked() == {ALICE.id, BOB.id}
        assert found.bars(certificates(CAROL_CHAIN), CAROL.id) is None
        assert (found.rotations(), found.makers(), found.out()) == ((), {}, {ALICE.id})

    def test_but_what_another_said_as_well_does(self) -> None:
        found = believing(BY_ALICE.notice(out(CAROL)), BY_DAVE.notice(out(CAROL)), BY_ROOT.notice(out(ALICE)))
        assert found.bars(certificates(CAROL_CHAIN), CAROL.id) is not None

    def test_nor_does_its_echo_void_or_raise_a_secret_of_the_roots(self) -> None:
        secret, later = new(3, "n"), new(5, "m")
        echo = Rotation(MESH.id, 9, secret.secret, NOW)
        told = [
            BY_ALICE.notice(secret), BY_ALICE.notice(echo), BY_ROOT.notice(secret), BY_ROOT.notice(later),
            BY_ROOT.notice(out(ALICE)),
        ]  # fmt: skip
        ends = []
        for order in itertools.permutations(told):
            found, mesh = heard(order)
            ends.append((found.rotations(), mesh.generation, mesh.secret, mesh.secrets(NOW)))
        assert all(end == ends[0] for end in ends)
        assert ends[0][1:3] == (5, later.secret)

    def test_and_cannot_be_said_again_once_the_revocation_is_forgotten(self) -> None:
        found = believing(BY_ROOT.notice(out(ALICE)))
        latest = read_membership(alice_chain()[0]).not_after
        notices = [BY_ALICE.notice(out(CAROL, latest)), BY_ALICE.notice(new(9, "x", latest))]
        for days in range(200):
            now = NOW + days * DAY
            found.forget_old(now)
            for notice in notices:
                if latest > now + 300 or found.revoked():
                    with pytest.raises(CertificateRefused):
                        found.add(notice, now)
                else:
                    assert found.add(notice, now) is None


class TestTheRootSaysItAgain:
    def test_the_later_word_about_whom_it_keeps_counts(self) -> None:
        strict, mild = BY_ROOT.notice(out(ALICE)), BY_ROOT.notice(out(ALICE, NOW + 1, kept=(BOB,)))
        for order in itertools.permutations([strict, mild]):
            found = Notices(MESH.id)
            for notice in order:
                found.add(notice, NOW)
            assert found.bars(certificates(bob_chain()), BOB.id) is None
            assert found.bars(certificates(alice_chain()), ALICE.id) is not None
            assert found.all() == (mild,)

    def test_a_member_that_repeats_itself_makes_no_news(self) -> None:
        found = believing(BY_ALICE.notice(out(CAROL)))
        for at in (NOW - 200, NOW + 200):
            assert found.add(BY_ALICE.notice(out(CAROL, at)), NOW) is None


class TestBounds:
    @staticmethod
    def many(issuer: Issuer, count: int, first: int = 0) -> list[Notice]:
        return [issuer.notice(out((first + number).to_bytes(32, "big"))) for number in range(count)]

    def test_a_member_that_goes_wrong_fills_its_share_and_replaces_ever_less(self) -> None:
        found = believing(BY_ROOT.notice(out(CAROL)), BY_DAVE.notice(out(BOB)))
        news = sum(found.add(notice, NOW) is not None for notice in self.many(BY_ALICE, 8 * MAX_FROM_ONE_MEMBER))
        assert len(found.by_member(ALICE.id)) == MAX_FROM_ONE_MEMBER
        assert {CAROL.id, BOB.id} <= found.revoked()
        # k ln(n/k) replacements are expected of a flood in an order that the flooder does not choose: 532.
        assert news - MAX_FROM_ONE_MEMBER < 4 * MAX_FROM_ONE_MEMBER

    def test_many_who_say_the_same_do_not_pass_the_bound(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("meshnode.identity.notices.MAX_REVOCATIONS", 6)
        found = Notices(MESH.id)
        for notice in self.many(BY_ALICE, 4) + self.many(BY_DAVE, 4) + self.many(BY_ROOT, 4):
            found.add(notice, NOW)
        assert len(found.all()) == 6
        assert len(found.by_member(ALICE.id)) + len(found.by_member(DAVE.id)) == 2

    def test_in_whatever_order_a_flood_comes_the_same_stay(self) -> None:
        flood = self.many(BY_ALICE, MAX_FROM_ONE_MEMBER + 40)
        one, other = Notices(MESH.id), Notices(MESH.id)
        for notice in flood:
            one.add(notice, NOW)
        for notice in reversed(flood):
            other.add(notice, NOW)
        assert one.revoked() == other.revoked()

    def test_the_roots_are_never_pushed_out_by_members(self) -> None:
        found = Notices(MESH.id)
        for notice in self.many(BY_ROOT, MAX_REVOCATIONS - 1):
            found.add(notice, NOW)
        for notice in self.many(BY_ALICE, 20, first=5000):
            found.add(notice, NOW)
        assert len(found.all()) == MAX_REVOCATIONS
        assert len(found.by_member(ALICE.id)) == 1
        found.add(BY_ROOT.notice(out(CAROL)), NOW)
        assert len(found.all()) == MAX_REVOCATIONS and CAROL.id in found.revoked()
        assert found.by_member(ALICE.id) == ()
        found.add(BY_ROOT.notice(out(BOB, NOW + 1)), NOW)
        assert len(found.all()) == MAX_REVOCATIONS and BOB.id in found.revoked()

    def test_the_last_rotations_are_kept(self) -> None:
        found = Notices(MESH.id)
        for number in (5, 1, 4, 2, 6, 3):
            found.add(BY_ROOT.notice(new(number, "abcdef"[number - 1])), NOW)
        assert [rotation.generation for rotation in found.rotations()] == [6, 5, 4, 3]
        assert len(found.rotations()) == MAX_ROTATIONS

    def test_one_signers_rotations_push_out_no_others(self) -> None:
        found = believing(BY_ROOT.notice(new(1, "a")), BY_DAVE.notice(new(2, "b")))
        for number in range(10, 20):
            found.add(BY_ALICE.notice(new(number, "abcdefghijklmnopqrst"[number])), NOW)
        assert [rotation.generation for rotation in found.rotations()] == [19, 18, 17, 16, 2, 1]
        found.add(BY_ROOT.notice(out(ALICE)), NOW)
        assert [rotation.generation for rotation in found.rotations()] == [2, 1]

    def test_nobody_uses_the_generations_up(self) -> None:
        highest = BY_ALICE.notice(new(NOW + 300, "x", NOW + 300))
        found = believing(highest)
        refused(BY_ALICE.notice(new(NOW + 301, "y", NOW + 300)), "ahead of all clocks", found=found)
        assert found.add(BY_ROOT.notice(new(NOW + 301, "n")), NOW)
        assert found.rotations()[0].secret == b"n" * 32
        refused(BY_ROOT.notice(new(NOW + ROOT_LEAD + 1, "z")), "ahead of all clocks", found=found)

    def test_old_ones_are_forgotten_and_not_taken_again(self) -> None:
        roots, members = BY_ROOT.notice(out(BOB)), BY_ALICE.notice(out(CAROL))
        rotation = BY_ROOT.notice(new(1, "n"))
        found = believing(roots, members, rotation)
        assert not found.forget_old(NOW + MEMBERS_KEPT_S)
        assert found.forget_old(NOW + MEMBERS_KEPT_S + 1)
        assert found.all() == (roots,)
        assert found.add(members, NOW + MEMBERS_KEPT_S + 1) is None
        assert found.add(rotation, NOW + MEMBERS_KEPT_S + 1) is None
        assert found.forget_old(NOW + ROOTS_KEPT_S + 1) and found.all() == ()
        assert found.add(roots, NOW + ROOTS_KEPT_S + 1) is None


class TestOrder:
    def test_others_hear_the_roots_revocations_first_and_rotations_last(self) -> None:
        rotation, members, roots = BY_ROOT.notice(new(1, "n")), BY_DAVE.notice(out(CAROL)), BY_ROOT.notice(out(ALICE))
        assert believing(rotation, members, roots).all() == (roots, members, rotation)


class TestRestored:
    def test_what_was_kept_is_known_again_whatever_the_clock_says(self) -> None:
        kept = believing(BY_ROOT.notice(out(BOB)), BY_ALICE.notice(out(CAROL)), BY_ROOT.notice(new(2, "n"))).all()
        assert Notices.restored(MESH.id, kept).all() == kept

    def test_what_cannot_be_believed_is_left_out(self) -> None:
        good = BY_ROOT.notice(out(BOB))
        bad = [msgspec.structs.replace(good, signature=bytes(64)), Notice(b"nonsense", bytes(64))]
        assert Notices.restored(MESH.id, [*bad, good]).all() == (good,)


EVERYTHING = [
    BY_ROOT.notice(out(ALICE)),
    BY_ROOT.notice(out(ALICE, NOW + 1, kept=(BOB,))),
    BY_ROOT.notice(out(ALICE, NOW + 1, kept=(CAROL,))),
    BY_ROOT.notice(out(BOB)),
    BY_ALICE.notice(out(CAROL)),
    BY_ALICE.notice(out(CAROL, NOW - 1)),
    BY_ALICE.notice(out(DAVE)),
    BY_DAVE.notice(out(CAROL)),
    BY_DAVE.notice(out(ALICE)),
    BY_DAVE.notice(out(BOB)),
    BY_ROOT.notice(new(1, "a")),
    BY_ROOT.notice(new(1, "b")),
    BY_ALICE.notice(new(1, "c")),
    BY_ALICE.notice(new(NOW, "d")),
    BY_ALICE.notice(new(3, "e", NOW + 7)),
    BY_DAVE.notice(new(2, "f")),
    BY_ROOT.notice(new(2, "g", NOW - 3600)),
    msgspec.structs.replace(BY_ROOT.notice(out(DAVE)), signature=bytes(64)),
]


def heard(notices: Iterable[Notice]) -> tuple[Notices, Mesh]:
    """What a node believes in the end, judged after each one as nodes do."""
    found, mesh = Notices(MESH.id), MESH
    for notice in notices:
        try:
            found.add(notice, NOW)
        except CertificateRefused:
            continue
        mesh = mesh.settled(found.rotations(), found.out(), NOW, found.makers())
    return found, mesh


def standing(found: Notices, mesh: Mesh) -> object:
    people = {ALICE: alice_chain(), BOB: bob_chain(), CAROL: CAROL_CHAIN, DAVE: DAVE_CHAIN}
    barred = {node.id.short: found.bars(certificates(chain), node.id) is None for node, chain in people.items()}
    joiners = {node.id.short: found.bars((), node.id) is None for node in people}
    return (found.revoked(), barred, joiners, found.rotations(), mesh.generation, mesh.secret)


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_all_nodes_come_to_the_same_in_whatever_order_and_however_often_they_hear(data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(EVERYTHING), unique_by=EVERYTHING.index, max_size=12))
    again = data.draw(st.lists(st.sampled_from(chosen), max_size=6)) if chosen else []
    one = heard(chosen)
    other = heard(data.draw(st.permutations(chosen + again)))
    assert standing(*one) == standing(*other)


@given(st.permutations(EVERYTHING), st.integers(0, len(EVERYTHING)))
@settings(deadline=None, max_examples=50)
def test_two_nodes_that_heard_different_things_agree_once_they_told_each_other(order: list[Notice], cut: int) -> None:
    one, other = heard(order[:cut])[0], heard(order[cut:])[0]
    joined, back = heard([*one.all(), *other.all()]), heard([*other.all(), *one.all()])
    assert standing(*joined) == standing(*back)


def test_every_bit_of_a_notice_counts() -> None:
    packed = BY_ALICE.notice(out(CAROL)).pack()
    for bit in range(len(packed) * 8):
        changed = bytearray(packed)
        changed[bit // 8] ^= 1 << (bit % 8)
        try:
            notice = Notice.unpack(bytes(changed))
        except DecodeError:
            continue
        found = Notices(MESH.id)
        with contextlib.suppress(CertificateRefused):
            assert found.add(notice, NOW) is None
        assert found.all() == ()

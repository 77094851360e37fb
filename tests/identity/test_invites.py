from __future__ import annotations

import random
import string

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from meshnode.errors import InviteRefused
from meshnode.identity import Invite, InviteBook, InviteNotUsable, Role, StoredInvite, Unusable
from meshnode.identity.invites import KEPT_S, MAX_ATTEMPTS, MAX_KEPT, MAX_LIFETIME_S
from meshnode.model import codec
from meshnode.model.psk import Secrets
from tests.identity.people import ALICE, DAY, MESH, NOW

SECRET = b"sixteen bytes :)"
ADDRESSES = ("192.168.1.5:6375", "[fe80::1]:6375")


def issue(book: InviteBook, now: int = NOW, secret: bytes = SECRET, lifetime_s: int = 3600) -> str:
    return book.issue(now, secret, mesh=MESH.id, signer=ALICE.id, addresses=ADDRESSES, lifetime_s=lifetime_s)[0]


def hint_of(line: str) -> bytes:
    return Invite.parse(line, NOW).hint


def refused(book: InviteBook, hint: bytes, now: int = NOW) -> InviteNotUsable:
    with pytest.raises(InviteNotUsable) as caught:
        book.burn(hint, now)
    return caught.value


class TestLine:
    def test_it_says_everything_the_joiner_needs(self) -> None:
        line = issue(InviteBook())
        invite = Invite.parse(line, NOW)
        assert (invite.mesh, invite.signer, invite.addresses) == (MESH.id, ALICE.id, ADDRESSES)
        assert invite.expires == NOW + 3600
        assert invite.secret == SECRET

    def test_it_is_one_word_of_url_safe_characters(self) -> None:
        line = issue(InviteBook())
        assert line.startswith("mesh1-")
        assert set(line) <= set(string.ascii_letters + string.digits + "-_")

    def test_a_terminal_may_have_broken_it(self) -> None:
        line = issue(InviteBook())
        assert Invite.parse(f"  {line[:50]}\n {line[50:]}\r\n", NOW) == Invite.parse(line, NOW)

    @given(st.data())
    @settings(deadline=None, max_examples=200)
    def test_any_wrong_character_is_noticed(self, data: st.DataObject) -> None:
        line = issue(InviteBook())
        place = data.draw(st.integers(0, len(line) - 1))
        wrong = data.draw(st.characters(min_codepoint=33, max_codepoint=0x2FF).filter(lambda c: not c.isspace()))
        if wrong == line[place]:
            return
        with pytest.raises(InviteRefused, match=r"mistyped|not an invite"):
            Invite.parse(line[:place] + wrong + line[place + 1 :], NOW)

    def test_any_cut_is_noticed(self) -> None:
        line = issue(InviteBook())
        for size in range(len(line)):
            with pytest.raises(InviteRefused, match=r"cut short|not an invite"):
                Invite.parse(line[:size], NOW)

    def test_two_letters_changed_round_are_noticed(self) -> None:
        line = issue(InviteBook())
        for place in range(6, len(line) - 1):
            if line[place] != line[place + 1]:
                with pytest.raises(InviteRefused, match="mistyped"):
                    Invite.parse(line[:place] + line[place + 1] + line[place] + line[place + 2 :], NOW)

    @given(st.text(max_size=100))
    @settings(deadline=None, max_examples=100)
    def test_any_text_is_an_invite_or_a_clear_error(self, text: str) -> None:
        for line in (text, "mesh1-" + text):
            with pytest.raises(InviteRefused, match="invite"):
                Invite.parse(line, NOW)

    def test_an_expired_line_needs_no_network_to_be_refused(self) -> None:
        line = issue(InviteBook())
        with pytest.raises(InviteRefused, match="expired"):
            Invite.parse(line, NOW + 3601)

    def test_another_version_is_named(self) -> None:
        invite = Invite.parse(issue(InviteBook()), NOW)
        body = codec.encode([2, *list(codec.decode(codec.encode(invite), list))[1:]])
        from meshnode.identity.invites import _armoured

        with pytest.raises(InviteRefused, match="another version"):
            Invite.parse("mesh1-" + _armoured(body), NOW)

    def test_its_secret_is_not_shown(self) -> None:
        invite = Invite.parse(issue(InviteBook()), NOW)
        assert "sixteen" not in repr(invite)


class TestBook:
    def test_both_sides_derive_the_same_keys(self) -> None:
        book = InviteBook()
        invite = Invite.parse(issue(book), NOW)
        assert book.attempt(invite.hint, NOW) == invite.psks()

    def test_the_book_keeps_no_secret(self) -> None:
        book = InviteBook()
        issue(book)
        assert SECRET not in codec.encode(book.records())

    def test_unknown(self) -> None:
        assert refused(InviteBook(), bytes(8)).reason is Unusable.UNKNOWN
        with pytest.raises(InviteNotUsable, match="did not make"):
            InviteBook().attempt(bytes(8), NOW)

    def test_what_is_granted_is_what_was_wished_when_it_was_made(self) -> None:
        book = InviteBook()
        line, stored = book.issue(
            NOW, SECRET, mesh=MESH.id, signer=ALICE.id, addresses=(), lifetime_s=60,
            roles=(Role.SERVE, Role.CLIENT, Role.SERVE), owner="bob", root=True,
        )  # fmt: skip
        burnt = book.burn(hint_of(line), NOW)
        assert (burnt.roles, burnt.owner, burnt.root) == ((Role.CLIENT, Role.SERVE), "bob", True)
        assert burnt == msgspec.structs.replace(stored, used=True)

    def test_the_second_use_is_told_who_was_first(self) -> None:
        book = InviteBook()
        hint = hint_of(issue(book))
        book.burn(hint, NOW, by="laptop\x1b[2J" + "p" * 100)
        error = refused(book, hint)
        assert error.reason is Unusable.USED
        assert "has been used by 'laptop[2J" in str(error) and "\x1b" not in str(error)
        assert len(book.records()[0].used_by) == 64

    def test_of_two_joiners_with_one_invite_the_second_is_refused(self) -> None:
        book = InviteBook()
        hint = hint_of(issue(book))
        book.attempt(hint, NOW)
        book.attempt(hint, NOW)
        book.burn(hint, NOW)
        assert "has been used; make a new one" in str(refused(book, hint))

    def test_who_comes_too_late_gets_a_handshake_to_be_told_so(self) -> None:
        book = InviteBook()
        hint = hint_of(issue(book))
        assert book.attempt(hint, NOW + 3600 + KEPT_S) == book.attempt(hint, NOW)
        assert refused(book, hint, NOW + 3601).reason is Unusable.EXPIRED
        with pytest.raises(InviteNotUsable, match="forgotten"):
            book.attempt(hint, NOW + 3601 + KEPT_S)

    def test_whoever_saw_only_the_hint_cannot_use_it_up(self) -> None:
        book = InviteBook()
        hint = hint_of(issue(book))
        before = book.records()
        for _ in range(1000):
            book.attempt(hint, NOW)
        assert book.records() == before
        book.burn(hint, NOW)

    def test_three_handshakes_may_get_through(self) -> None:
        book = InviteBook()
        hint = hint_of(issue(book))
        for _ in range(MAX_ATTEMPTS):
            book.got_through(hint, NOW)
        InviteBook(book.records()).burn(hint, NOW)  # the third itself may still succeed
        for _ in range(100):
            book.got_through(hint, NOW)
        assert refused(book, hint).reason is Unusable.TOO_MANY_ATTEMPTS

    def test_no_more_are_open_than_fit(self) -> None:
        book = InviteBook()
        for number in range(MAX_KEPT):
            issue(book, secret=number.to_bytes(16, "big"))
        with pytest.raises(InviteRefused, match="wait until some have expired"):
            issue(book)
        issue(book, NOW + 3601 + KEPT_S)

    @pytest.mark.parametrize("lifetime_s", [0, -1, MAX_LIFETIME_S + 1])
    def test_a_lifetime_over_a_day_is_refused(self, lifetime_s: int) -> None:
        with pytest.raises(ValueError, match="lives"):
            issue(InviteBook(), lifetime_s=lifetime_s)

    @pytest.mark.parametrize("size", [0, 15, 17])
    def test_a_secret_of_another_size_is_refused(self, size: int) -> None:
        with pytest.raises(ValueError, match="16"):
            issue(InviteBook(), secret=bytes(size))

    def test_old_ones_are_forgotten(self) -> None:
        book = InviteBook()
        hint = hint_of(issue(book))
        issue(book, NOW + 3600 + KEPT_S, b"another sixteen.")
        assert hint in {record.hint for record in book.records()}
        issue(book, NOW + 3601 + KEPT_S, b"a third sixteen.")
        assert hint not in {record.hint for record in book.records()}


class BookMachine(RuleBasedStateMachine):
    """Against the plainest model there is, through storage after every step: never two members from one invite."""

    def __init__(self) -> None:
        super().__init__()
        self.random = random.Random(0)
        self.book = InviteBook()
        self.now = NOW
        self.expires: dict[bytes, int] = {}
        self.attempts: dict[bytes, int] = {}
        self.members: dict[bytes, int] = {}

    @rule(lifetime_s=st.integers(1, MAX_LIFETIME_S))
    def issue(self, lifetime_s: int) -> None:
        line = issue(self.book, self.now, self.random.randbytes(16), lifetime_s)
        hint = Invite.parse(line, self.now).hint
        self.expires[hint], self.attempts[hint], self.members[hint] = self.now + lifetime_s, 0, 0

    @rule(pick=st.integers(0, 100))
    def begin(self, pick: int) -> None:
        hint = self.pick(pick)
        if hint is not None and self.now <= self.expires[hint] + KEPT_S:
            assert isinstance(self.book.attempt(hint, self.now), Secrets)

    @rule(pick=st.integers(0, 100))
    def get_through(self, pick: int) -> None:
        hint = self.pick(pick)
        if hint is not None and self.now <= self.expires[hint] + KEPT_S:
            self.book.got_through(hint, self.now)
            self.attempts[hint] += 1

    @rule(pick=st.integers(0, 100))
    def join(self, pick: int) -> None:
        hint = self.pick(pick)
        if hint is None:
            return
        try:
            self.book.burn(hint, self.now, "somebody")
        except InviteNotUsable:
            usable = self.now <= self.expires[hint] and self.attempts[hint] <= MAX_ATTEMPTS
            assert self.members[hint] or not usable
        else:
            self.members[hint] += 1
            assert self.now <= self.expires[hint] and self.attempts[hint] <= MAX_ATTEMPTS

    @rule(seconds=st.integers(0, DAY))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @invariant()
    def nobody_joins_twice(self) -> None:
        assert all(count <= 1 for count in self.members.values())

    @invariant()
    def survives_storage(self) -> None:
        stored = codec.decode(codec.encode(self.book.records()), tuple[StoredInvite, ...])
        assert stored == self.book.records()
        self.book = InviteBook(stored)

    def pick(self, number: int) -> bytes | None:
        return sorted(self.expires)[number % len(self.expires)] if self.expires else None


TestBookMachine = BookMachine.TestCase
TestBookMachine.settings = settings(deadline=None, max_examples=40, stateful_step_count=30)

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.errors import IdentityError
from meshnode.identity import Mesh, Rotation, new_tofu_secret, tofu_mesh
from meshnode.identity.mesh import MAX_OLDER, OLD_SECRET_S, VOID
from meshnode.model import codec
from meshnode.model.psk import Secrets
from tests.identity.people import ALICE, DAY, MESH, NOW


def rotation(generation: int, letter: str, at: int = NOW) -> Rotation:
    return Rotation(MESH.id, generation, letter.encode() * 32, at)


def by_alice() -> Mesh:
    """Alice has rotated the secret."""
    return MESH.settled((rotation(9, "x"),), (), NOW, {b"x" * 32: ALICE.id})


def known(mesh: Mesh, now: int = NOW) -> list[bytes]:
    """Secrets that this mesh accepts, newest first."""
    return [mesh.secret, *(old.secret for old in mesh.older if now <= old.until)]


class TestSecrets:
    def test_members_of_one_mesh_derive_the_same_keys(self) -> None:
        assert MESH.secrets(NOW) == Mesh(MESH.id, "another name", MESH.secret).secrets(NOW)
        assert MESH.secrets(NOW) == (Secrets.derive(MESH.secret, b"member"),)

    def test_another_secret_is_another_mesh(self) -> None:
        assert MESH.secrets(NOW) != Mesh(MESH.id, "home", b"t" * 32).secrets(NOW)

    def test_they_are_not_shown(self) -> None:
        rotated = MESH.rotated(rotation(1, "n"), NOW)
        assert repr(MESH.secret) not in repr(rotated) and repr(rotated.secret) not in repr(rotated)
        assert repr(MESH.secret) not in repr(rotated.older)

    def test_they_survive_storage(self) -> None:
        rotated = MESH.rotated(rotation(1, "n"), NOW).rotated(rotation(2, "o"), NOW + 9)
        assert codec.decode(codec.encode(rotated), Mesh) == rotated


class TestRotation:
    def test_the_old_secret_is_accepted_a_day_longer(self) -> None:
        rotated = MESH.rotated(rotation(1, "n"), NOW)
        assert rotated.generation == 1
        new, old = Secrets.derive(b"n" * 32, b"member"), Secrets.derive(MESH.secret, b"member")
        assert rotated.secrets(NOW + OLD_SECRET_S) == (new, old)
        assert rotated.secrets(NOW + OLD_SECRET_S + 1) == (new,)

    def test_a_day_counts_from_the_rotation_not_from_its_arrival(self) -> None:
        assert known(MESH.rotated(rotation(1, "n", NOW), NOW + DAY + 1), NOW + DAY + 1) == [b"n" * 32]

    def test_a_lower_generation_that_comes_late_is_an_old_one(self) -> None:
        rotated = MESH.rotated(rotation(2, "o", NOW + 5), NOW + 5).rotated(rotation(1, "n"), NOW + 9)
        assert known(rotated) == [b"o" * 32, b"n" * 32, MESH.secret]

    def test_of_two_at_once_the_larger_wins_and_the_other_is_accepted(self) -> None:
        for pair in itertools.permutations([rotation(1, "n"), rotation(1, "o")]):
            mesh = MESH
            for one in pair:
                mesh = mesh.rotated(one, NOW)
            assert known(mesh) == [b"o" * 32, b"n" * 32, MESH.secret]

    @given(st.data())
    @settings(deadline=None, max_examples=200)
    def test_any_order_and_any_repetition_give_the_same_mesh(self, data: st.DataObject) -> None:
        generations = data.draw(st.lists(st.integers(1, 4), max_size=MAX_OLDER))
        rotations = [
            rotation(generation, letter, NOW - data.draw(st.integers(0, 2 * DAY)))
            for generation, letter in zip(generations, "nopq", strict=False)
        ]
        order = data.draw(st.permutations(rotations + data.draw(st.lists(st.sampled_from(rotations or [None])))))
        straight, other = MESH, MESH
        for one in rotations:
            straight = straight.rotated(one, NOW)
        for one in order:
            other = other.rotated(one, NOW) if one is not None else other
        assert known(straight) == known(other)
        assert straight.generation == other.generation

    @given(st.permutations([rotation(number, chr(ord("a") + number), NOW + number) for number in range(1, 12)]))
    @settings(deadline=None, max_examples=50)
    def test_of_however_many_the_newest_is_agreed_on_and_few_are_kept(self, order: list[Rotation]) -> None:
        mesh = MESH
        for one in order:
            mesh = mesh.rotated(one, NOW)
        assert (mesh.generation, mesh.secret) == (11, b"l" * 32)
        assert len(mesh.older) == MAX_OLDER

    def test_many_rotations_in_a_row_do_not_shut_out_whoever_slept_through_them(self) -> None:
        mesh = MESH
        for number in range(1, 12):
            mesh = mesh.rotated(rotation(number, chr(ord("a") + number), NOW + number), NOW + number)
        assert MESH.secret in known(mesh, NOW + 20)


class TestVoid:
    """Somebody rotated, and was revoked by the root."""

    def test_the_secret_goes_behind_the_others_and_is_accepted_for_a_day(self) -> None:
        mesh = by_alice().settled((), {ALICE.id}, NOW + 60)
        assert (mesh.generation, known(mesh, NOW + 60)) == (0, [MESH.secret, b"x" * 32])
        assert mesh.settled((), {ALICE.id}, NOW + 9999) == mesh
        assert known(mesh, NOW + 61 + DAY) == [MESH.secret]

    def test_the_roots_next_rotation_wins_though_its_number_is_lower(self) -> None:
        mesh = by_alice().rotated(rotation(1, "n"), NOW)
        assert mesh.secret == b"x" * 32
        assert mesh.settled((), {ALICE.id}, NOW).secret == b"n" * 32

    def test_one_that_is_the_last_stays_until_there_is_another(self) -> None:
        old = Mesh(MESH.id, "home", b"x" * 32, 9, (), NOW, ALICE.public)
        mesh = old.settled((), {ALICE.id}, NOW + 9 * DAY)
        assert (mesh.generation, mesh.secret) == (VOID, b"x" * 32)
        healed = mesh.rotated(rotation(1, "n", NOW + 9 * DAY), NOW + 9 * DAY)
        assert known(healed, NOW + 10 * DAY) == [b"n" * 32, b"x" * 32]
        assert codec.decode(codec.encode(mesh), Mesh) == mesh

    def test_a_secret_that_had_expired_does_not_come_back(self) -> None:
        mesh = by_alice()
        assert mesh.older
        assert mesh.settled((), {ALICE.id}, NOW + 2 * DAY).secret == b"x" * 32

    def test_hearing_the_rotation_again_does_not_bring_it_back(self) -> None:
        mesh = by_alice().settled((), {ALICE.id}, NOW)
        assert mesh.settled((rotation(9, "x"),), {ALICE.id}, NOW, {b"x" * 32: ALICE.id}).secret == MESH.secret

    def test_whoever_was_told_the_secret_without_the_notice_knows_whose_it_is(self) -> None:
        told = codec.decode(codec.encode(by_alice()), Mesh)
        late = told.settled((rotation(1, "n"),), {ALICE.id}, NOW)
        assert late.secret == b"n" * 32

    def test_all_secrets_of_one_that_rotated_often_go(self) -> None:
        mesh = MESH
        for number in range(20):
            made = rotation(100 + number, chr(ord("a") + number), NOW + number)
            mesh = mesh.settled((made,), (), NOW + number, {made.secret: ALICE.id})
        assert mesh.settled((rotation(1, "z"),), {ALICE.id}, NOW + 30).secret == b"z" * 32


class TestTofu:
    LINE = new_tofu_secret(b"t" * 32)

    def test_one_line_is_one_mesh(self) -> None:
        mesh = tofu_mesh(self.LINE)
        assert mesh == tofu_mesh(f"  {self.LINE.upper()}\n")
        assert mesh != tofu_mesh(new_tofu_secret(b"u" * 32))
        assert len(mesh.id) == len(mesh.secret) == 32

    def test_neither_the_id_nor_the_network_secret_shows_the_line(self) -> None:
        mesh = tofu_mesh(self.LINE)
        assert b"t" * 32 not in (mesh.id, mesh.secret) and mesh.id != mesh.secret
        assert repr(mesh.secret) not in repr(mesh)

    @given(st.data())
    @settings(deadline=None, max_examples=200)
    def test_any_wrong_character_is_noticed_and_not_repeated(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(self.LINE) - 1))
        wrong = data.draw(st.characters(min_codepoint=33, max_codepoint=0x2FF).filter(lambda c: not c.isspace()))
        if wrong.lower() == self.LINE[place]:
            return
        with pytest.raises(IdentityError, match=r"mistyped|not a mesh secret") as caught:
            tofu_mesh(self.LINE[:place] + wrong + self.LINE[place + 1 :])
        assert self.LINE[20:40] not in str(caught.value) and caught.value.__cause__ is None

    def test_any_cut_is_noticed(self) -> None:
        for size in range(len(self.LINE)):
            with pytest.raises(IdentityError):
                tofu_mesh(self.LINE[:size])

    @given(st.text(max_size=300))
    @settings(deadline=None, max_examples=200)
    def test_any_text_is_a_secret_or_a_clear_error(self, text: str) -> None:
        for line in (text, "meshnode-secret-1-" + text):
            with pytest.raises(IdentityError, match="mesh secret"):
                tofu_mesh(line)

    @pytest.mark.parametrize("size", [0, 31, 33])
    def test_a_secret_of_another_size_is_refused(self, size: int) -> None:
        with pytest.raises(ValueError, match="32"):
            new_tofu_secret(bytes(size))

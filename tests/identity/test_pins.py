from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.errors import CertificateRefused
from meshnode.identity import Barred, Pins
from meshnode.identity.pins import MAX_FOLDED, MAX_NAMES_OF_ONE, MAX_PINS, PinTable, folded
from meshnode.model import codec
from meshnode.model.ids import NodeId
from tests.identity.people import ALICE, BOB


def node(number: int) -> NodeId:
    return NodeId(number.to_bytes(32, "big"))


class TestNames:
    @pytest.mark.parametrize(
        "lookalike",
        [
            "CAFÉ-box",
            "cafe\u0301-box",
            " café-box  ",
            "\uff43afé-box",
            "café\ufe0f-box",
            "café-box\U000e0100",
            "café-\u3164box",
        ],
    )
    def test_names_that_look_alike_are_one(self, lookalike: str) -> None:
        assert folded(lookalike) == folded("café-box")

    @pytest.mark.parametrize("other", ["cafe-box", "café-box2", "café box", "cafébox"])
    def test_names_that_look_different_are_not(self, other: str) -> None:
        assert folded(other) != folded("café-box")

    @pytest.mark.parametrize("name", ["", " ", "\u3164", "\ufe0f\ufe0f"])
    def test_a_name_that_shows_nothing_is_none(self, name: str) -> None:
        with pytest.raises(CertificateRefused, match="no name"):
            folded(name)

    @pytest.mark.parametrize("name", ["a\u200bb", "a\u202eb", "a\nb", "a\x00b", "a\u00a0b"])
    def test_a_name_that_cannot_be_printed_is_refused(self, name: str) -> None:
        with pytest.raises(CertificateRefused, match="cannot be printed"):
            folded(name)

    @given(st.text(min_size=1, max_size=64))
    @settings(deadline=None, max_examples=300)
    def test_folding_ends_after_once_and_fits_the_store(self, name: str) -> None:
        try:
            once = folded(name)
        except CertificateRefused:
            return
        assert len(once) <= MAX_FOLDED
        assert folded(unicodedata.normalize("NFD", name)) == once
        assert folded(unicodedata.normalize("NFC", name)) == once


class TestTable:
    def test_a_name_is_the_first_keys(self) -> None:
        table = PinTable(Pins())
        assert table.add_name(ALICE.id, "box")
        assert not table.add_name(ALICE.id, "BOX")
        with pytest.raises(Barred, match=rf"belongs to {ALICE.id.short}.*peers forget {ALICE.id.short}"):
            table.add_name(BOB.id, "Box")
        assert table.forget(ALICE.id)
        assert table.add_name(BOB.id, "Box")

    def test_a_machine_that_is_renamed_keeps_its_old_name_too(self) -> None:
        table = PinTable(Pins())
        table.add_name(ALICE.id, "box")
        table.add_name(ALICE.id, "tower")
        with pytest.raises(Barred):
            table.check_name_of(BOB.id, "box")

    def test_one_key_does_not_fill_the_table_with_names(self) -> None:
        table = PinTable(Pins())
        for number in range(MAX_NAMES_OF_ONE):
            table.add_name(ALICE.id, f"box{number}")
        with pytest.raises(Barred, match="other names"):
            table.add_name(ALICE.id, "another")
        table.add_name(BOB.id, "another")

    @pytest.mark.parametrize("kind", ["names", "pins", "bars"])
    def test_a_full_table_drops_nothing(self, kind: str) -> None:
        ids = tuple(bytes(node(number)) for number in range(MAX_PINS))
        names = tuple((f"n{number}", ids[number]) for number in range(MAX_PINS))
        table = PinTable(Pins(ids, names, ids))
        before = table.pins
        with pytest.raises(Barred, match="none is dropped"):
            {
                "names": lambda: table.add_name(ALICE.id, "box"),
                "pins": lambda: table.pin(ALICE.id),
                "bars": lambda: table.bar(ALICE.id),
            }[kind]()
        assert table.pins is before
        assert codec.decode(codec.encode(before), Pins, limit=4 << 20) == before

    def test_pinning_lifts_a_bar_and_forgetting_drops_everything(self) -> None:
        table = PinTable(Pins())
        assert table.bar(ALICE.id) and not table.bar(ALICE.id)
        assert table.pin(ALICE.id) and not table.pin(ALICE.id)
        assert (table.pinned(ALICE.id), table.barred(ALICE.id)) == (True, False)
        assert table.forget(ALICE.id) and not table.forget(ALICE.id)
        assert table.pins == Pins()

    def test_pins_are_another_object_exactly_when_they_changed(self) -> None:
        table = PinTable(Pins())
        seen = [table.pins]
        for change in (lambda: table.pin(ALICE.id), lambda: table.pin(ALICE.id), lambda: table.forget(BOB.id)):
            change()
            seen.append(table.pins)
        assert seen[0] is not seen[1] and seen[1] is seen[2] is seen[3]

    def test_the_largest_table_of_the_longest_names_is_stored_and_read(self) -> None:
        names = tuple((f"{number:04}" + "\N{GRINNING FACE}" * 60, bytes(node(number))) for number in range(MAX_PINS))
        pins = Pins(names=names)
        assert codec.decode(codec.encode(pins), Pins, limit=4 << 20) == pins

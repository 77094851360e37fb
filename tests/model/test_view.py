"""What a node calls others."""

from __future__ import annotations

from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId
from meshnode.model.posture import Posture
from meshnode.model.view import View

ME, OTHER = NodeId(b"a" * 32), NodeId(b"b" * 32)


def named(name: str) -> str:
    return View(ME, {OTHER: Advert(bytes(OTHER), b"m" * 32, 1, 1, 180, name=name)}).name(OTHER)


def test_a_node_is_called_by_its_name_or_by_its_id() -> None:
    assert named("studio") == "studio"
    assert named("") == OTHER.short
    assert View(ME).name(OTHER) == OTHER.short


def test_a_name_moves_no_cursor_and_ends_no_line() -> None:
    assert named("stu\x1b[2Jdio\r\n") == "stu[2Jdio"
    assert named("\x1b\x00") == OTHER.short


def test_a_posture_is_what_was_verified_of_the_node_and_of_these_weights() -> None:
    first, second, stranger = NodeId(b"1" * 32), NodeId(b"2" * 32), NodeId(b"3" * 32)
    view = View(
        first, postures={first: Posture.ATTESTED}, weights={first: frozenset({b"w"}), second: frozenset({b"w", b""})}
    )
    assert view.posture(first, b"w") is Posture.ATTESTED
    assert view.posture(first, b"other") is Posture.ATTESTED
    assert view.posture(second, b"w") is Posture.SIGNED_WEIGHTS
    assert view.posture(second, b"other") is Posture.CLAIMED
    assert view.posture(second, b"") is Posture.CLAIMED, "no digest, nothing that a manifest could cover"
    assert view.posture(stranger, b"w") is Posture.CLAIMED

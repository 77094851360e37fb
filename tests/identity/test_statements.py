from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.errors import CertificateRefused, DecodeError
from meshnode.identity import Issuer, Notice, Revocation, Rotation
from meshnode.identity.statements import MAX_BODY_BYTES, MAX_NOTICE_BYTES
from meshnode.model import codec
from tests.identity.people import ALICE, BY_ROOT, CAROL, MESH, NOW

OUT = Revocation(MESH.id, CAROL.public, NOW)
NEW = Rotation(MESH.id, 1, b"n" * 32, NOW)


@pytest.mark.parametrize("statement", [OUT, NEW])
def test_a_notice_travels(statement: Revocation | Rotation) -> None:
    notice = Notice.unpack(BY_ROOT.notice(statement).pack())
    assert notice == BY_ROOT.notice(statement)
    assert (notice.statement, notice.member) == (statement, None)


def test_the_largest_notice_is_read() -> None:
    chain = BY_ROOT.issue(ALICE.id, 2**40 - 10**7, 2**63 - 1, owner="\N{GRINNING FACE}" * 64, invited_by=b"i" * 32)
    kept = tuple(bytes([n]) * 32 for n in range(16))
    notice = Issuer(ALICE, MESH.id, chain).notice(Revocation(MESH.id, CAROL.public, 2**40, kept))
    assert len(notice.body) <= MAX_BODY_BYTES
    assert Notice.unpack(notice.pack()) == notice
    assert notice.member == ALICE.id


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=300)
def test_anything_else_is_refused_and_nothing_worse(data: bytes) -> None:
    with pytest.raises(DecodeError):
        Notice.unpack(data)
    with pytest.raises(CertificateRefused, match="cannot be read"):
        _ = Notice(data, bytes(64)).statement


def test_one_that_is_too_long_is_not_read() -> None:
    with pytest.raises(DecodeError, match="at most"):
        Notice.unpack(bytes(MAX_NOTICE_BYTES + 1))


@pytest.mark.parametrize(
    "fields",
    [
        ["revocation", MESH.id, CAROL.public, -1, []],
        ["revocation", MESH.id, CAROL.public, 2**40 + 1, []],
        ["revocation", MESH.id, CAROL.public, NOW, [bytes(32)] * 17],
        ["revocation", MESH.id, CAROL.public[:31], NOW, []],
        ["revocation", MESH.id, CAROL.public, NOW, [], "more"],
        ["rotation", MESH.id, 0, bytes(32), NOW],
        ["rotation", MESH.id, 2**41 + 1, bytes(32), NOW],
        ["rotation", MESH.id, 1, bytes(31), NOW],
        ["rotation", MESH.id, 1.0, bytes(32), NOW],
        ["praise", MESH.id, CAROL.public, NOW, []],
        [],
    ],
)
def test_a_statement_out_of_its_bounds_is_refused(fields: list[object]) -> None:
    with pytest.raises(CertificateRefused, match="cannot be read"):
        _ = Notice(codec.encode(fields), bytes(64)).statement


def test_the_secret_is_not_shown() -> None:
    assert repr(NEW.secret) not in repr(NEW)
    notice = BY_ROOT.notice(NEW)
    assert repr(notice) == f"Notice({len(notice.body)} bytes, by the root)"

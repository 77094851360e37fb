"""Statements and operators' keys on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshnode.errors import SecretFileError
from meshnode.keep.evidence import STATEMENT, load_key, load_statement, make_key, save_statement
from tests.trust.people import statement


def test_a_statement_comes_back(tmp_path: Path) -> None:
    assert load_statement(tmp_path) is None
    save_statement(tmp_path, statement())
    assert load_statement(tmp_path) == statement()


def test_a_damaged_statement_is_said_to_be(tmp_path: Path) -> None:
    save_statement(tmp_path, statement())
    (tmp_path / STATEMENT).write_bytes(b"x")
    with pytest.raises(SecretFileError, match="damaged"):
        load_statement(tmp_path)


def test_an_operators_key_comes_back_and_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "op.key"
    made = make_key(path)
    assert load_key(path).public == made.public
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(SecretFileError):
        make_key(path)


@pytest.mark.parametrize("rest", ["", "zz", "00", "00" * 33])
def test_what_is_no_key_is_refused(tmp_path: Path, rest: str) -> None:
    path = tmp_path / "op.key"
    path.write_text(f"meshnode operator key 1 {rest}")
    path.chmod(0o600)
    with pytest.raises(SecretFileError, match="no operator"):
        load_key(path)


def test_a_missing_key_and_one_that_others_can_read(tmp_path: Path) -> None:
    path = tmp_path / "op.key"
    with pytest.raises(SecretFileError, match="attest key"):
        load_key(path)
    make_key(path)
    path.chmod(0o640)
    with pytest.raises(SecretFileError):
        load_key(path)

"""The file of API keys: what was kept is there again, for this user alone, and what is damaged opens no door."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshnode.access import MOST_KEYS, Ring, Scope, Wish, digest_of, key_of
from meshnode.access.record import MOST_MODELS
from meshnode.errors import SecretFileError
from meshnode.keep.api_keys import FILE, load_keys, save_keys
from meshnode.model.job import Label

KEY = key_of(b"k" * 32)


def ring(many: int = 1, models: int = 1) -> Ring:
    wish = Wish(
        owner="ann", scopes=(Scope.ADMIN, Scope.INFER), models=tuple("\U0001f511" * 128 for _ in range(models)),
        label=Label.INTERNAL, priority="high", expires_s=60.0, timeout_s=1.5,
    )  # fmt: skip
    made = Ring()
    for number in range(many):
        key = KEY if not number else key_of(number.to_bytes(32, "big"))
        made, _ = made.added(wish, f"{number:08x}", digest_of(key) or b"", 1000.0)
    return made


def test_without_a_file_there_are_none(tmp_path: Path) -> None:
    assert len(load_keys(tmp_path)) == 0


def test_keys_outlive_a_restart(tmp_path: Path) -> None:
    kept, _ = ring(3).revoked("00000001", 1001.0)
    save_keys(tmp_path, kept)
    assert load_keys(tmp_path).records == kept.records
    assert load_keys(tmp_path).caller(KEY, 1001.0) == kept.caller(KEY, 1001.0)


def test_no_key_is_in_the_file_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    save_keys(tmp_path, ring())
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert b"mk_" not in (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).chmod(0o640)
    with pytest.raises(SecretFileError, match="chmod 600"):
        load_keys(tmp_path)


def test_a_damaged_file_is_not_an_empty_one(tmp_path: Path) -> None:
    save_keys(tmp_path, ring(2))
    whole = (tmp_path / FILE).read_bytes()
    for broken in (whole[:-1], whole + b"x", b"", whole.replace(b"owner", b"ownez")):
        (tmp_path / FILE).write_bytes(broken)
        with pytest.raises(SecretFileError, match=r"keys\.cbor is cut short or damaged"):
            load_keys(tmp_path)


def test_as_many_as_there_may_be_can_be_read_again(tmp_path: Path) -> None:
    save_keys(tmp_path, ring(MOST_KEYS, MOST_MODELS))
    assert len(load_keys(tmp_path)) == MOST_KEYS

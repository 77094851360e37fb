"""A restart is no new purse."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshnode.errors import SecretFileError
from meshnode.keep.spending import load_spent, save_spent
from meshnode.routing.fallback import Spent


def test_what_was_spent_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "cloud-spent"
    assert load_spent(path) == Spent()
    save_spent(path, Spent(20_000, 1_234_567))
    assert load_spent(path) == Spent(20_000, 1_234_567)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_purse_that_cannot_be_read_is_not_full(tmp_path: Path) -> None:
    path = tmp_path / "cloud-spent"
    path.write_bytes(b"x")
    path.chmod(0o600)
    with pytest.raises(SecretFileError, match="remove it"):
        load_spent(path)

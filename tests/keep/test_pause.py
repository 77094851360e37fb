"""A pause outlives the node that was told of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshnode.errors import SecretFileError
from meshnode.keep.pause import load_pause, save_pause
from meshnode.model.takes import Takes


def test_a_pause_comes_back_until_it_is_lifted(tmp_path: Path) -> None:
    path = tmp_path / "paused"
    assert load_pause(path) is Takes.EVERYBODYS
    for takes in (Takes.NOBODYS, Takes.OWN):
        save_pause(path, takes)
        assert load_pause(path) is takes
        assert path.stat().st_mode & 0o777 == 0o600
    for _ in range(2):
        save_pause(path, Takes.EVERYBODYS)
        assert load_pause(path) is Takes.EVERYBODYS and not path.exists()


@pytest.mark.parametrize("content", [b"", b"all\n", b"own" * 100, b"\xff"])
def test_a_pause_that_cannot_be_read_is_not_lifted(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "paused"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SecretFileError):
        load_pause(path)

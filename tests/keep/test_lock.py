from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from meshnode.errors import SecretFileError, StartError
from meshnode.keep import HomeLock

HOLD = """
import sys
from pathlib import Path
from meshnode.keep import HomeLock
with HomeLock(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_second_lock_names_the_holder(tmp_path: Path) -> None:
    with HomeLock(tmp_path / "lock"), pytest.raises(StartError, match=rf"process {os.getpid()}: .*MESHNODE_HOME"):
        HomeLock(tmp_path / "lock")


def test_a_released_lock_is_free(tmp_path: Path) -> None:
    lock = HomeLock(tmp_path / "lock")
    lock.release()
    lock.release()
    HomeLock(tmp_path / "lock").release()


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(StartError, match=f"process {holder.pid}:"):
            HomeLock(path)
        holder.kill()
        holder.wait()
        HomeLock(path).release()


def test_a_child_does_not_inherit_the_lock(tmp_path: Path) -> None:
    lock = HomeLock(tmp_path / "lock")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False) as child:
        lock.release()
        HomeLock(tmp_path / "lock").release()
        child.kill()


def test_a_planted_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SecretFileError, match="cannot open the lock"):
        HomeLock(tmp_path / "lock")

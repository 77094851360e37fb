"""T21: what other users of the machine could have read or planted is not used."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshnode.errors import SecretFileError
from meshnode.keep import create_secret, private_directory, read_secret, remove_secret, write_secret


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


class TestWriting:
    @given(st.binary(max_size=5000))
    @settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck))
    def test_what_was_written_is_read(self, tmp_path: Path, data: bytes) -> None:
        write_secret(tmp_path / "file", data)
        assert read_secret(tmp_path / "file") == data

    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
    @pytest.mark.parametrize("write", [write_secret, create_secret])
    def test_the_mode_is_0600_under_any_umask(self, tmp_path: Path, umask: int, write: object) -> None:
        before = os.umask(umask)
        try:
            write(tmp_path / "file", b"secret")  # type: ignore[operator]
        finally:
            os.umask(before)
        assert mode(tmp_path / "file") == 0o600

    @pytest.mark.parametrize("write", [write_secret, create_secret])
    def test_nothing_else_is_left_in_the_directory(self, tmp_path: Path, write: object) -> None:
        write(tmp_path / "file", b"secret")  # type: ignore[operator]
        assert os.listdir(tmp_path) == ["file"]

    def test_a_file_open_to_others_is_replaced_by_one_that_is_not(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"old")
        (tmp_path / "file").chmod(0o644)
        write_secret(tmp_path / "file", b"new")
        assert read_secret(tmp_path / "file") == b"new"

    def test_a_planted_link_is_replaced_and_its_target_untouched(self, tmp_path: Path) -> None:
        (tmp_path / "target").write_bytes(b"theirs")
        (tmp_path / "file").symlink_to(tmp_path / "target")
        (tmp_path / ".file.new").symlink_to(tmp_path / "target")
        write_secret(tmp_path / "file", b"ours")
        assert (tmp_path / "target").read_bytes() == b"theirs"
        assert read_secret(tmp_path / "file") == b"ours"

    def test_creating_never_replaces(self, tmp_path: Path) -> None:
        create_secret(tmp_path / "file", b"first")
        with pytest.raises(SecretFileError, match="there already"):
            create_secret(tmp_path / "file", b"second")
        assert read_secret(tmp_path / "file") == b"first"
        assert os.listdir(tmp_path) == ["file"]

    def test_creating_does_not_follow_a_planted_link(self, tmp_path: Path) -> None:
        (tmp_path / "file").symlink_to(tmp_path / "target")
        with pytest.raises(SecretFileError, match="there already"):
            create_secret(tmp_path / "file", b"secret")
        assert not (tmp_path / "target").exists()

    @pytest.mark.parametrize(("write", "naming"), [(write_secret, "replace"), (create_secret, "link")])
    def test_the_bytes_are_on_disk_before_the_name_and_the_name_before_the_return(
        self, tmp_path: Path, write: object, naming: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        order: list[str] = []
        fsync, name = os.fsync, getattr(os, naming)

        def watched_fsync(descriptor: int) -> None:
            order.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
            fsync(descriptor)

        def watched_naming(old: Path, new: Path) -> None:
            order.append("name")
            name(old, new)

        monkeypatch.setattr("meshnode.keep.secrets.os.fsync", watched_fsync)
        monkeypatch.setattr(f"meshnode.keep.secrets.os.{naming}", watched_naming)
        write(tmp_path / "file", b"secret")  # type: ignore[operator]
        assert order == ["file", "name", "directory"]

    def test_a_missing_directory_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(SecretFileError, match=r"cannot write .*none/file"):
            write_secret(tmp_path / "none" / "file", b"secret")


class HalfWritten:
    """Stands in for `open`: a raw file that takes three bytes and then finds the disk full."""

    def __init__(self, descriptor: int, *_: object, **__: object) -> None:
        self.descriptor = descriptor
        self.taken = False

    def __enter__(self) -> HalfWritten:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def write(self, data: memoryview) -> int:
        if self.taken:
            disk_full()
        self.taken = True
        return os.write(self.descriptor, data[:3])


def disk_full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class TestFullDisk:
    """A write that fails anywhere leaves the old file whole and nothing beside it."""

    @staticmethod
    def arm(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
        if step == "write":
            monkeypatch.setattr("meshnode.keep.secrets.open", HalfWritten, raising=False)
        else:
            monkeypatch.setattr(f"meshnode.keep.secrets.os.{step}", disk_full)

    @pytest.mark.parametrize("step", ["open", "fchmod", "write", "fsync", "replace"])
    def test_the_old_file_survives(self, tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "file"
        write_secret(path, b"old")
        self.arm(monkeypatch, step)
        with pytest.raises(SecretFileError, match=f"cannot write {path}: No space left.*make room.*unchanged"):
            write_secret(path, b"new content")
        monkeypatch.undo()
        assert read_secret(path) == b"old"
        assert os.listdir(tmp_path) == ["file"]

    @pytest.mark.parametrize("step", ["open", "fchmod", "write", "fsync", "link"])
    def test_no_half_file_is_created(self, tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.arm(monkeypatch, step)
        with pytest.raises(SecretFileError, match="No space left"):
            create_secret(tmp_path / "file", b"new content")
        monkeypatch.undo()
        assert os.listdir(tmp_path) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of 64 KiB, where this process may mount one."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if sys.platform != "linux" or os.geteuid() != 0 or mount is None or umount is None:
        pytest.skip("mounting a small disk takes root on Linux")
    place = tmp_path / "disk"
    place.mkdir(mode=0o700)
    made = subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", place], capture_output=True)
    if made.returncode != 0:
        pytest.skip("this machine lets nobody mount")
    try:
        yield place
    finally:
        subprocess.run([umount, place], check=True)


def test_a_disk_that_is_really_full_leaves_the_old_file_whole(small_disk: Path) -> None:
    path = small_disk / "file"
    write_secret(path, b"old" * 1000)
    with (small_disk / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while ballast.write(bytes(4096)):
            pass
    for write in (write_secret, lambda _, data: create_secret(small_disk / "fresh", data)):
        with pytest.raises(SecretFileError, match=r"No space left on device: make room on its disk; .* unchanged"):
            write(path, b"new" * 5000)
    assert read_secret(path) == b"old" * 1000
    assert sorted(os.listdir(small_disk)) == ["ballast", "file"]
    (small_disk / "ballast").unlink()
    write_secret(path, b"new" * 5000)
    assert read_secret(path) == b"new" * 5000


def python(script: str, path: Path) -> subprocess.CompletedProcess[str]:
    """A process of its own, so that its limits and its death are its own."""
    return subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, timeout=60)


def test_a_limit_on_the_size_of_files_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_secret(path, b"old")
    found = python(
        "import pathlib, resource, sys\n"
        "from meshnode.errors import SecretFileError\n"
        "from meshnode.keep import write_secret\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    write_secret(pathlib.Path(sys.argv[1]), bytes(5000))\n"
        "except SecretFileError as error:\n    print(error)\n",
        path,
    )
    assert "File too large: the size of files is limited here (ulimit -f)" in found.stdout, found.stderr
    assert read_secret(path) == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(("write", "step"), [("write_secret", "replace"), ("create_secret", "link")])
def test_a_process_killed_between_writing_and_naming_leaves_the_old_file_and_harms_no_later_one(
    tmp_path: Path, write: str, step: str
) -> None:
    path = tmp_path / "file"
    if write == "write_secret":
        write_secret(path, b"old")
    before = read_secret(path)
    found = python(
        "import os, pathlib, signal, sys\n"
        "from meshnode.keep import secrets\n"
        f"secrets.os.{step} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"secrets.{write}(pathlib.Path(sys.argv[1]), b'half')\n",
        path,
    )
    assert found.returncode == -signal.SIGKILL, found.stderr
    assert read_secret(path) == before
    assert (tmp_path / ".file.new").exists()
    write_secret(path, b"new")
    assert read_secret(path) == b"new"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("write", [write_secret, create_secret])
def test_a_directory_that_cannot_be_synced_is_not_passed_over(
    tmp_path: Path, write: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def failing(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    monkeypatch.setattr("meshnode.keep.secrets.os.fsync", failing)
    with pytest.raises(SecretFileError, match="may not outlive a power cut"):
        write(tmp_path / "file", b"secret")  # type: ignore[operator]
    assert os.listdir(tmp_path) == ["file"]


class TestRemoving:
    def test_the_file_goes_and_what_a_crash_left_beside_it(self, tmp_path: Path) -> None:
        write_secret(tmp_path / "file", b"secret")
        write_secret(tmp_path / "other", b"secret")
        (tmp_path / ".file.new").write_bytes(b"half")
        remove_secret(tmp_path / "file")
        assert os.listdir(tmp_path) == ["other"]

    def test_one_that_is_missing_is_well(self, tmp_path: Path) -> None:
        remove_secret(tmp_path / "file")

    def test_it_is_gone_on_disk_when_it_returns(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_secret(tmp_path / "file", b"secret")
        synced: list[bool] = []
        monkeypatch.setattr("meshnode.keep.secrets.os.fsync", lambda _: synced.append((tmp_path / "file").exists()))
        remove_secret(tmp_path / "file")
        assert synced == [False]

    def test_one_that_cannot_be_removed_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").mkdir()
        with pytest.raises(SecretFileError, match=f"cannot remove {tmp_path / 'file'}"):
            remove_secret(tmp_path / "file")


class TestReading:
    def test_a_missing_file_is_none(self, tmp_path: Path) -> None:
        assert read_secret(tmp_path / "file") is None

    @pytest.mark.parametrize("bits", range(0o1000))
    def test_any_bit_for_others_is_refused_with_its_remedy(self, tmp_path: Path, bits: int) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"secret")
        path.chmod(bits)
        if bits & 0o077:
            with pytest.raises(SecretFileError, match=f"mode {bits:03o}.*chmod 600 {path}"):
                read_secret(path)
        elif os.geteuid() == 0 or bits & 0o400:
            assert read_secret(path) == b"secret"
        else:
            with pytest.raises(SecretFileError, match="Permission denied"):
                read_secret(path)

    def test_a_link_is_refused(self, tmp_path: Path) -> None:
        write_secret(tmp_path / "target", b"secret")
        (tmp_path / "file").symlink_to(tmp_path / "target")
        with pytest.raises(SecretFileError, match="symbolic link"):
            read_secret(tmp_path / "file")

    def test_a_dangling_link_is_not_a_missing_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").symlink_to(tmp_path / "nowhere")
        with pytest.raises(SecretFileError, match="symbolic link"):
            read_secret(tmp_path / "file")

    def test_a_pipe_does_not_stop_the_start(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "file", 0o600)
        with pytest.raises(SecretFileError, match="not a regular file"):
            read_secret(tmp_path / "file")

    def test_a_directory_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").mkdir(mode=0o700)
        with pytest.raises(SecretFileError, match="not a regular file"):
            read_secret(tmp_path / "file")

    def test_a_file_too_large_is_refused(self, tmp_path: Path) -> None:
        write_secret(tmp_path / "file", bytes(11))
        assert read_secret(tmp_path / "file", limit=11) == bytes(11)
        with pytest.raises(SecretFileError, match="more than 10 bytes"):
            read_secret(tmp_path / "file", limit=10)

    def test_another_owners_file_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_secret(tmp_path / "file", b"secret")
        monkeypatch.setattr("meshnode.keep.secrets.os.geteuid", lambda: os.getuid() + 1)
        with pytest.raises(SecretFileError, match="belongs to another user"):
            read_secret(tmp_path / "file")


class TestDirectory:
    def test_it_is_made_with_what_is_above_it(self, tmp_path: Path) -> None:
        private_directory(tmp_path / "a" / "b")
        assert mode(tmp_path / "a" / "b") == 0o700

    def test_one_that_is_private_already_is_kept(self, tmp_path: Path) -> None:
        private_directory(tmp_path / "a")
        (tmp_path / "a" / "file").write_bytes(b"")
        private_directory(tmp_path / "a")
        assert os.listdir(tmp_path / "a") == ["file"]

    @pytest.mark.parametrize("bits", [0o701, 0o710, 0o750, 0o755, 0o777])
    def test_one_open_to_others_is_refused_with_its_remedy(self, tmp_path: Path, bits: int) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "a").chmod(bits)
        with pytest.raises(SecretFileError, match=f"chmod 700 {tmp_path / 'a'}"):
            private_directory(tmp_path / "a")

    def test_a_link_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a").symlink_to(tmp_path)
        with pytest.raises(SecretFileError, match="not a directory"):
            private_directory(tmp_path / "a")

    def test_a_file_in_its_place_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"")
        with pytest.raises(SecretFileError, match="not a directory"):
            private_directory(tmp_path / "a")

    def test_a_file_above_it_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"")
        with pytest.raises(SecretFileError, match="cannot make the directory"):
            private_directory(tmp_path / "a" / "b")

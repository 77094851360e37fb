from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from meshnode.cli.app import app

HEAVY = {"trio", "rich", "quart", "hypercorn", "h2", "cryptography", "structlog", "psutil", "http.client", "msgspec",
         "segno"}  # fmt: skip
VERBS = ("up", "run", "models", "ps", "status", "peers", "invite", "join", "leave", "mesh", "doctor", "version")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_help_names_every_verb_and_imports_nothing_heavy() -> None:
    ended = python("-X", "importtime", "-m", "meshnode", "--help")
    assert ended.returncode == 0
    for verb in VERBS:
        assert f"\n  {verb} " in ended.stdout
    imported = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines() if line.startswith("import time")}
    assert "typer" in imported
    assert not imported & HEAVY


def test_version_in_three_spellings(cli: CliRunner) -> None:
    installed = version("meshnode")
    assert cli.invoke(app, ["version"]).stdout == f"meshnode {installed}\n"
    assert cli.invoke(app, ["--version"]).stdout == f"meshnode {installed}\n"
    assert json.loads(cli.invoke(app, ["version", "--json"]).stdout) == {"version": installed}


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["up", "--engines", "magic"],
        ["up", "--log-format", "xml"],
        ["up", "--api", "6374"],
        ["up", "--api", "127.0.0.1:99999"],
        ["up", "--mesh", "somewhere"],
        ["up", "--peer", "studio.lan"],
        ["up", "--peer", ":6375"],
        ["run"],
        ["join"],
        ["invite", "--role", "king"],
        ["invite", "--owner", "x" * 65],
        ["up", "--trust", "everybody"],
        ["peers", "revoke"],
        ["peers", "--home", "/elsewhere", "revoke", "attic"],
        ["peers", "--json", "forget", "attic"],
        ["mesh", "secret", "one", "two"],
        ["status", "--what"],
    ],
)
def test_a_command_line_that_makes_no_sense_ends_with_two(cli: CliRunner, arguments: list[str]) -> None:
    result = cli.invoke(app, arguments)
    assert result.exit_code == 2
    assert "Error" in result.stderr


def test_a_reader_that_left_is_no_traceback() -> None:
    line = f"{sys.executable} -m meshnode version --json | true; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(("closed", "code"), [(">&-", 0), ("2>&-", 0), ("<&-", 0), (">/dev/full", 1)])
def test_a_stream_that_is_closed_or_full_is_no_traceback(home: Path, closed: str, code: int, tmp_path: Path) -> None:
    line = f"{sys.executable} -m meshnode status --home {home} 2>{tmp_path / 'said'} {closed}"
    ended = subprocess.run(["bash", "-c", line], timeout=60, check=False)
    assert "Traceback" not in (tmp_path / "said").read_text()
    assert ended.returncode == code

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import typer

from meshnode.cli import outcome, say
from meshnode.errors import ConfigError, Overloaded


def test_every_fault_of_a_configuration_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, outcome.reported():
        raise ConfigError(["first", "second"])
    assert ended.value.exit_code == say.FAILED
    assert capsys.readouterr().err == "meshnode: the configuration cannot be used:\n  first\n  second\n"


def test_an_error_in_json_has_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), outcome.reported(as_json=True):
        raise Overloaded("all slots are full")
    assert capsys.readouterr().err == (
        '{"error": {"message": "all slots are full", "type": "Overloaded", "code": "overloaded"}}\n'
    )


def test_an_interrupt_ends_with_the_shells_code() -> None:
    with pytest.raises(typer.Exit) as ended, outcome.reported():
        raise KeyboardInterrupt
    assert ended.value.exit_code == 130


def test_tables_on_a_terminal_take_no_markup_from_cells(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    say.write_table(("NAME", "ID"), [("[red]attic[/red]", "x")], empty="none")
    assert "[red]attic[/red]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("called", "found", "typed"),
    [
        (".venv/bin/meshnode", None, ".venv/bin/meshnode"),
        (".venv/bin/meshnode", ".venv/bin/meshnode", "meshnode"),
        ("somewhere/pytest", None, "meshnode"),
    ],
)
def test_suggested_commands_work_where_the_first_one_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, called: str, found: str | None, typed: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".venv/bin").mkdir(parents=True)
    Path(".venv/bin/meshnode").touch(mode=0o700)
    monkeypatch.setattr(sys, "argv", [called])
    monkeypatch.setattr("shutil.which", lambda _: found)
    assert say.command("run", "a b") == f"{typed} run 'a b'"


def test_a_module_run_is_suggested_as_the_script_beside_its_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bin").mkdir()
    Path("bin/meshnode").touch(mode=0o700)
    monkeypatch.setattr(sys, "argv", ["/x/meshnode/__main__.py"])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert say.command("up") == "bin/meshnode up"
    monkeypatch.setattr("shutil.which", lambda _: str(tmp_path / "bin" / "meshnode"))
    assert say.command("up") == "meshnode up"


def test_a_module_run_is_suggested_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/x/meshnode/__main__.py"])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    assert say.command("up") == "bin/python -m meshnode up"

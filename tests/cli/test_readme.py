"""What README.md promises can be typed: commands, options, targets, headers and settings that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from meshnode.cli.app import app
from meshnode.config import load

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SOURCE = "".join(path.read_text() for path in (ROOT / "meshnode").rglob("*.py"))

FENCES = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
ROWS = re.findall(r"^\| (`meshnode .*?) \|", README, re.MULTILINE)
SHOWN = {
    line.strip()
    for text in ("".join(text for kind, text in FENCES if not kind), *re.findall(r"`(meshnode [^`]+)`", README))
    for line in re.findall(r"^(?:\w+\$ +)?meshnode ([^#\n]+)", text, re.MULTILINE)
}
"""Command lines in full."""


def below(command: Any) -> dict[str, Any]:
    """The commands of a group; none of any other."""
    return getattr(command, "commands", {})


TOP = below(typer.main.get_command(app))


@pytest.mark.parametrize("line", sorted(SHOWN))
def test_a_command_that_is_shown_exists_with_its_options(line: str) -> None:
    verb, *words = re.sub(r"'.*?'|\".*?\"", "TEXT", line).split()
    found = TOP[verb]
    if words and words[0] in below(found):
        found = below(found)[words[0]]
    options = {name for parameter in found.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize("row", ROWS)
def test_each_alternative_of_the_table_exists(row: str) -> None:
    """An alternative is a command of its own, or stands for the last word of the one before."""
    group: dict[str, Any] = {}
    for words in (text.removeprefix("meshnode ").split() for text in re.findall(r"`([^`]+)`", row)):
        found = TOP if words[0] in TOP else group
        assert words[0] in found, f"there is no `meshnode … {words[0]}`"
        if found is TOP:
            group = below(TOP[words[0]])
        if len(words) > 1 and words[1].isalpha() and words[1].islower():
            assert words[1] in group


def test_the_options_of_up_exist() -> None:
    (row,) = (line for line in README.splitlines() if line.startswith("| `meshnode up` |"))
    options = {name for parameter in TOP["up"].params for name in parameter.opts}
    assert {text.split()[0] for text in re.findall(r"`(--[^`]+)`", row)} <= options


def test_the_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    texts = README + (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"^make (\w+)", texts, re.MULTILINE)) | set(re.findall(r"`make (\w+)", texts))
    assert {"run", "test"} <= named <= targets


def test_headers_errors_and_environment_are_those_of_the_code() -> None:
    headers = set(re.findall(r"x-meshnode-[a-z-]*[a-z]", README))
    assert {name for name in headers if name not in SOURCE} == set()
    codes = {code for code in re.findall(r"`([a-z]+_[a-z_]+)`", README) if "." not in code}
    assert {code for code in codes if code not in SOURCE} == set()


def test_the_settings_that_are_shown_are_settings(tmp_path: Path) -> None:
    shown = [text for kind, text in FENCES if kind == "toml"]
    assert len(shown) == 2
    for number, text in enumerate(shown):
        tomllib.loads(text)
        path = tmp_path / f"{number}.toml"
        path.write_text(text)
        load(path)

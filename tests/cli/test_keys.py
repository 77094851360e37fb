"""`keys add`, `list`, `revoke`, `forget`: told to the node that runs, and done on the home where none does."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from meshnode.access import digest_of
from meshnode.cli import keys
from meshnode.cli.app import app
from meshnode.cli.place import place
from meshnode.keep.api_keys import load_keys
from meshnode.keep.home import Home
from tests.cli.conftest import FakeDaemon, Terminal

MADE = {
    "key": "mk_" + "A" * 43, "id": "0a1b2c3d", "owner": "ann", "scopes": ["infer"], "models": [], "label": "public",
    "priority": "normal", "timeout_s": None, "first_token_s": None, "silence_s": None, "made_at": 1000,
    "not_after": None, "revoked_at": None, "state": "good",
}  # fmt: skip


def run(cli: CliRunner, home: Path, *words: str, code: int = 0) -> str:
    result = cli.invoke(app, ["keys", *words, "--home", str(home)])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


class TestRunning:
    def test_the_node_makes_the_key_and_it_stands_alone(self, cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
        daemon.answer("POST", "/mesh/keys/add", MADE)
        said = run(
            cli, home, "add", "--owner", "ann", "--scope", "admin", "--scope", "infer", "--models", "m,n*", "--models",
            "o", "--label", "internal", "--priority", "low", "--expires", "30d", "--timeout", "10m",
            "--first-token-timeout", "90s", "--silence-timeout", "5",
        )  # fmt: skip
        assert said == f"{MADE['key']}\n"
        method, path, body, authorization = daemon.asked[-1]
        assert (method, path) == ("POST", "/mesh/keys/add")
        assert authorization == f"Bearer {Home(home).control_secret()}"
        assert body == {
            "owner": "ann", "scopes": ["admin", "infer"], "models": ["m", "n*", "o"], "label": "internal",
            "priority": "low", "expires_s": 30 * 86_400, "timeout_s": 600, "first_token_s": 90, "silence_s": 5,
        }  # fmt: skip

    @pytest.mark.parametrize("models", ["", " ", "m,", ",m"])
    def test_a_list_of_models_with_a_gap_makes_no_key_for_all(
        self, cli: CliRunner, home: Path, daemon: FakeDaemon, models: str
    ) -> None:
        daemon.answer("POST", "/mesh/keys/add", MADE)
        assert "--models" in run(cli, home, "add", "--owner", "ann", "--models", models, code=2)
        assert not daemon.asked

    def test_an_owner_has_a_name(self, cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
        assert "--owner" in run(cli, home, "add", "--owner", " ", code=2)
        assert "--owner" in run(cli, home, "add", "--owner", "x" * 65, code=2)
        assert not daemon.asked

    def test_people_are_told_what_to_do_with_it(
        self, home: Path, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        daemon.answer("POST", "/mesh/keys/add", {**MADE, "owner": "ann\x1b[31m"})
        monkeypatch.setattr(sys, "stdout", Terminal())
        keys.add(place(home), {"owner": "ann"}, as_json=False)
        said = sys.stdout.getvalue()  # type: ignore[attr-defined]
        assert f"  {MADE['key']}\n" in said and f"keys revoke 0a1b2c3d --home {home}" in said
        assert "\x1b" not in said

    def test_json_is_the_nodes(self, cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
        for verb, words in (("add", ["--owner", "ann"]), ("revoke", ["0a1b2c3d"]), ("forget", ["0a1b2c3d"])):
            daemon.answer("POST", f"/mesh/keys/{verb}", MADE)
            assert json.loads(run(cli, home, verb, *words, "--json")) == MADE
        daemon.answer("POST", "/mesh/keys/list", {"keys": [MADE], "closed": True})
        assert json.loads(run(cli, home, "list", "--json")) == {"keys": [MADE], "closed": True}

    def test_the_list(self, cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
        daemon.answer("POST", "/mesh/keys/list", {"keys": [{**MADE, "timeout_s": 5.0}], "closed": True})
        said = run(cli, home, "list")
        assert "0a1b2c3d" in said and "ann" in said and "all 5 s" in said and "mk_" not in said

    @pytest.mark.parametrize(("closed", "word"), [(True, "nobody is answered"), (False, "none is needed")])
    def test_no_keys(self, cli: CliRunner, home: Path, daemon: FakeDaemon, closed: bool, word: str) -> None:
        daemon.answer("POST", "/mesh/keys/list", {"keys": [], "closed": closed})
        assert word in run(cli, home, "list")

    def test_the_nodes_refusal_is_said(self, cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
        error = {"error": {"message": "there is no key 'x' here", "code": "invalid_request"}}
        daemon.answer("POST", "/mesh/keys/revoke", error, status=400)
        assert run(cli, home, "revoke", "x", code=1) == "meshnode: there is no key 'x' here\n"


class TestAlone:
    """A node that listens to the network needs a key before its first start."""

    def test_a_home_gets_its_first_key(self, cli: CliRunner, tmp_path: Path) -> None:
        home = tmp_path / "new"
        key = run(cli, home, "add", "--owner", "ann", "--expires", "1d").strip()
        (record,) = load_keys(home).records
        assert (record.owner, record.digest) == ("ann", digest_of(key))
        assert record.not_after is not None and record.not_after - record.made_at == 86_400
        assert record.id in run(cli, home, "list")

    def test_revoked_and_forgotten(self, cli: CliRunner, tmp_path: Path) -> None:
        home = tmp_path / "new"
        made: dict[str, Any] = json.loads(run(cli, home, "add", "--owner", "ann", "--json"))
        assert "revoke it first" in run(cli, home, "forget", made["id"], code=1)
        assert "revoked" in run(cli, home, "revoke", made["id"])
        assert load_keys(home).caller(made["key"], 0) is None
        assert "it was the last" in run(cli, home, "forget", made["id"])
        assert len(load_keys(home)) == 0

    def test_an_owner_that_is_no_name_is_refused(self, cli: CliRunner, tmp_path: Path) -> None:
        assert "owner" in run(cli, tmp_path / "new", "add", "--owner", " x", code=1)

    def test_not_under_a_node_that_starts(self, cli: CliRunner, tmp_path: Path) -> None:
        home = Home(tmp_path / "new")
        with home:
            assert run(cli, home.path, "add", "--owner", "ann", code=1)
        assert len(load_keys(home.path)) == 0


@pytest.mark.parametrize(
    "words", [["--expires", "soon"], ["--expires", "0s"], ["--timeout", "2d"], ["--label", "x"], ["--priority", "1"]]
)
def test_what_makes_no_sense_is_a_wrong_command_line(cli: CliRunner, tmp_path: Path, words: list[str]) -> None:
    assert cli.invoke(app, ["keys", "add", "--owner", "a", *words, "--home", str(tmp_path / "h")]).exit_code == 2
    assert not (tmp_path / "h").exists()

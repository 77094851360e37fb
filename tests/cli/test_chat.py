from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from meshnode.cli import chat
from meshnode.cli.app import app
from meshnode.cli.daemon import Daemon
from tests.cli.conftest import DONE, FakeDaemon, piece

HELLO = piece(role="assistant") + b": keepalive\n\n" + piece(content="Hel") + piece(content="lo ü") + DONE


def test_run_streams_the_answer_to_standard_output(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    daemon.answer("POST", chat.COMPLETIONS, HELLO)
    result = cli.invoke(app, ["run", "llama3:8b", "hi", "--home", str(home)])
    assert (result.exit_code, result.stdout) == (0, "Hello ü\n")
    body = daemon.asked[-1][2]
    assert body == {"model": "llama3:8b", "messages": [{"role": "user", "content": "hi"}], "stream": True}


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_the_prompt_may_come_through_a_pipe(
    cli: CliRunner, home: Path, daemon: FakeDaemon, arguments: list[str]
) -> None:
    daemon.answer("POST", chat.COMPLETIONS, HELLO)
    cli.invoke(app, ["run", "llama3:8b", *arguments, "--home", str(home)], input="from a pipe")
    assert daemon.asked[-1][2]["messages"][0]["content"] == "from a pipe"


def test_no_prompt_at_all_is_refused_here(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    result = cli.invoke(app, ["run", "llama3:8b", "--home", str(home)], input="")
    assert result.exit_code == 1
    assert "no prompt" in result.stderr
    assert all(method == "GET" for method, *_ in daemon.asked)


def test_a_refusal_is_the_nodes_own_message(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    said = "There is no model 'lama3'. Did you mean 'llama3:8b'?"
    daemon.answer("POST", chat.COMPLETIONS, {"error": {"message": said, "code": "model_not_found"}}, status=404)
    result = cli.invoke(app, ["run", "lama3", "hi", "--home", str(home)])
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"meshnode: {said}\n")


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        (b'data: {"error":{"message":"the engine died","code":"engine_failed"}}\n\n', "the engine died"),
        (b"", "broke off"),
        (b"data: {nonsense\n\n", "not JSON"),
    ],
)
def test_an_answer_that_ends_badly_keeps_what_came_and_fails(
    cli: CliRunner, home: Path, daemon: FakeDaemon, ending: bytes, message: str
) -> None:
    daemon.answer("POST", chat.COMPLETIONS, piece(content="Half") + ending)
    result = cli.invoke(app, ["run", "llama3:8b", "hi", "--home", str(home)])
    assert (result.exit_code, result.stdout) == (1, "Half\n")
    assert message in result.stderr


def test_reasoning_is_left_out_of_a_pipe(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    daemon.answer("POST", chat.COMPLETIONS, piece(reasoning_content="Hm.") + piece(content="Yes") + DONE)
    assert cli.invoke(app, ["run", "llama3:8b", "hi", "--home", str(home)]).stdout == "Yes\n"


class TestOnATerminal:
    def test_an_answer_cannot_steer_the_terminal(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        chat.show([chat.Piece("a\x1b[2Jb\n\tc\r")])
        assert capsys.readouterr().out == "a[2Jb\n\tc\n"

    def test_reasoning_is_dim(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        chat.show([chat.Piece("Hm.", thought=True), chat.Piece("Yes")])
        assert capsys.readouterr().out == "\x1b[2mHm.\x1b[22m\nYes\n"

    def test_a_conversation_remembers_answers_and_forgets_failures(
        self, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def ask(_: str) -> str:
            kind, text = script.pop(0)
            if kind == "end":
                raise EOFError
            if kind == "fails":
                daemon.answer("POST", chat.COMPLETIONS, {"error": {"message": "all slots are full"}}, status=429)
            else:
                daemon.answer("POST", chat.COMPLETIONS, HELLO)
            return text

        script = [("ok", "one"), ("ok", "  "), ("fails", "two"), ("ok", "three"), ("end", "")]
        monkeypatch.setattr("builtins.input", ask)
        chat.converse(Daemon(daemon.api), "llama3:8b")
        assert [message["content"] for message in daemon.asked[-1][2]["messages"]] == ["one", "Hello ü", "three"]
        assert "meshnode: all slots are full" in capsys.readouterr().err

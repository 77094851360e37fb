"""Why a request went where it went, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from typer.testing import CliRunner

from meshnode.cli.app import app
from meshnode.dispatch.journal import Journal, brief, report
from meshnode.keep.home import Home
from meshnode.routing.aperture import WIDE
from tests.cli.conftest import FakeDaemon
from tests.routing.build import NOTHING, job, node, router, star


def written() -> tuple[dict[str, Any], dict[str, Any]]:
    view = star(3, {2: {"draining": True}, 3: {"name": "attic\x1b[31m"}})
    entry = Journal(1, 1 << 20).begin(job(), 10.0)
    entry.planned(router().consider(job(), view, NOTHING, Random(1), 10.0), 10.001)
    entry.note(10.001, "asked", 1, node(1), "first")
    entry.note(11.0, "answered", 1, node(1))
    entry.note(11.0, "first token")
    entry.ended(13.5, "ok", 7)
    return report(entry, view, 20.0), brief(entry, view, 20.0)


def test_it_shows_candidates_exclusions_attempts_and_where_the_time_went(
    cli: CliRunner, home: Path, daemon: FakeDaemon
) -> None:
    daemon.answer("GET", "/mesh/requests/j1", written()[0])
    shown = cli.invoke(app, ["why", "j1", "--home", str(home)]).stdout
    assert "j1  llama  ok after 3.500000 s" in shown
    assert "not n2: it is shutting down (draining)" in shown
    assert "n0 > n1" in shown
    assert "prefill" in shown
    assert "in all 3.500000 s, 7 chunks" in shown
    assert "first token" in shown
    assert "\x1b" not in shown


def many(servers: int, plans: int = 1, **facts: Any) -> dict[str, Any]:
    """A report of the last of so many plans over so many servers."""
    view, made = star(servers), router()
    entry = Journal(1, 1 << 20).begin(job(), 10.0)
    for seed in range(plans):
        entry.planned(made.consider(job(**facts), view, NOTHING, Random(seed), 10.0), 10.0)
    entry.ended(11.0, "ok")
    return report(entry, view, 20.0)


def shown(cli: CliRunner, home: Path, daemon: FakeDaemon, document: dict[str, Any], *options: str) -> str:
    daemon.answer("GET", "/mesh/requests/j1", document)
    return cli.invoke(app, ["why", "j1", *options, "--home", str(home)]).stdout


def rows(text: str) -> set[str]:
    """Names of the servers that the table of candidates has."""
    return {line.split()[0] for line in text.splitlines() if line.startswith("n") and "prefill" in line}


def test_in_short_the_best_are_shown_and_with_all_everyone(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    document = many(60)
    short = shown(cli, home, daemon, document)
    best = len(document["plan"]["attempts"]) + len(document["plan"]["others"])
    assert len(rows(short)) == best
    assert f"and {60 - best} more that may serve, with higher scores (--all shows them)" in short
    whole = shown(cli, home, daemon, document, "--all")
    assert rows(whole) == {f"n{number}" for number in range(1, 61)}
    assert "1 link away" in whole
    assert " more " not in whole


def test_what_is_kept_no_more_is_not_promised(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    document = many(60)
    document["plan"]["further"] = []
    for options in ((), ("--all",)):
        assert "more that may serve, with higher scores (their terms are kept of the newest requests only)" in shown(
            cli, home, daemon, document, *options
        )


def test_those_left_out_are_counted_in_short_and_named_with_all(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    document = many(60, needs=frozenset({"vision"}))
    short, whole = (shown(cli, home, daemon, document, *options) for options in ((), ("--all",)))
    assert (short.count("not n"), whole.count("not n")) == (20, 60)
    assert "and 40 more that may not serve (--all shows them)" in short
    document["plan"]["excluded"], document["plan"]["not_listed"] = document["plan"]["excluded"][:40], 20
    assert "and 40 more that may not serve (--all shows them)" in shown(cli, home, daemon, document)
    assert "and 20 more that may not serve (they are kept of" in shown(cli, home, daemon, document, "--all")


def test_how_many_were_not_looked_at_and_why_is_said(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    document = many(300, plans=2)
    unseen = document["plan"]["not_looked_at"]
    assert unseen > 0
    text = shown(cli, home, daemon, document, "--all")
    assert f"{unseen} more offer it and were not looked at: of more than {WIDE} servers" in text
    assert len(rows(text)) == 300 - unseen


def test_json_is_what_the_node_said(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    found = written()[0]
    daemon.answer("GET", "/mesh/requests/j1", found)
    assert json.loads(cli.invoke(app, ["why", "j1", "--json", "--home", str(home)]).stdout) == found


def test_without_an_id_the_last_requests_are_listed(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    daemon.answer("GET", "/mesh/requests", {"requests": [written()[1]]})
    words = cli.invoke(app, ["why", "--home", str(home)]).stdout.splitlines()[1].split()
    assert (words[0], *words[2:]) == ("j1", "llama", "n1", "1", "3.500", "ok")


def test_a_request_that_waits_shows_its_place(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    view = star(3)
    entry = Journal(1, 1 << 20).begin(job(), 10.0)
    entry.placed(11.0, 1, node(1), 3)
    daemon.answer("GET", "/mesh/requests", {"requests": [brief(entry, view, 12.0)]})
    assert "running, queued at place 3" in cli.invoke(app, ["why", "--home", str(home)]).stdout
    daemon.answer("GET", "/mesh/requests/j1", report(entry, view, 12.0))
    shown = cli.invoke(app, ["why", "j1", "--home", str(home)]).stdout
    assert "running, queued at place 3 after 2.000000 s" in shown
    assert any(line.split()[-2:] == ["place", "3"] for line in shown.splitlines() if "queued #1" in line)


def test_it_is_asked_with_the_control_secret(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    secret = Home(home).control_secret()
    daemon.answer("GET", "/mesh/requests", {"requests": []})
    assert "no requests yet" in cli.invoke(app, ["why", "--home", str(home)]).stdout
    assert daemon.asked[-1][3] == f"Bearer {secret}"


def test_an_id_that_is_not_known_or_empty_is_named(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    daemon.answer("GET", "/mesh/requests/j2", {"error": {"message": "no", "code": "not_found"}}, status=404)
    said = cli.invoke(app, ["why", "j2", "--json", "--home", str(home)])
    error = json.loads(said.stderr)["error"]
    assert (said.exit_code, error["code"]) == (1, "not_found") and "'j2'" in error["message"]
    assert "id is missing" in cli.invoke(app, ["why", "", "--home", str(home)]).stderr


def test_what_is_not_known_or_of_another_version_is_an_error(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    assert cli.invoke(app, ["why", "j2", "--home", str(home)]).exit_code == 1
    daemon.answer("GET", "/mesh/requests/j3", {"id": "j3"})
    assert cli.invoke(app, ["why", "j3", "--home", str(home)]).exit_code == 1

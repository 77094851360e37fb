"""`peers --graph`: as text, as a file, as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from meshnode.cli.app import app
from meshnode.cli.graph import report, tree
from tests.cli.conftest import FakeDaemon
from tests.cli.graph.meshes import ROW


def test_the_text_shows_ways_then_other_links_then_tunnels() -> None:
    assert list(tree.lines(report.read(ROW))) == [
        "alpha (aaaa)  ← this node",
        "└─  1.2 ms ─ bravo (bbbb)  llama3:8b",
        "   └─   ≤5 ms ─ charlie (cccc)",
        "      └─  ≤20 ms ─ delta (dddd)  draining",
        "   echo (eeee)  gone",
        "",
        "links beside these ways:",
        "   bravo ─ ≤50 ms ─ delta",
        "   delta ─ ≤50 ms ─ echo  (only one end says so)",
        "",
        "sealed tunnels of this node:",
        "   alpha > bravo > charlie > delta  (opened here, 2 streams)",
        "",
        "tunnels of others that pass through this node: 1",
    ]


def test_the_node_draws_itself_in_three_ways(cli: CliRunner, home: Path, daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.answer("GET", "/mesh/graph", ROW)
    asked = ["peers", "--graph", "--home", str(home)]
    assert cli.invoke(app, asked).stdout.startswith("alpha (aaaa)  ← this node\n")
    assert json.loads(cli.invoke(app, [*asked, "--json"]).stdout) == ROW
    file = tmp_path / "mesh.svg"
    said = cli.invoke(app, [*asked, "--svg", str(file)]).stdout
    assert said == f"{file}: 5 nodes, 5 links\n"
    assert file.read_text(encoding="utf-8").startswith("<svg ")


def test_a_file_that_cannot_be_written_is_said(cli: CliRunner, home: Path, daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.answer("GET", "/mesh/graph", ROW)
    ran = cli.invoke(app, ["peers", "--svg", str(tmp_path / "no" / "mesh.svg"), "--home", str(home)])
    assert ran.exit_code == 1
    assert "No such file" in ran.stderr


def test_graph_options_belong_to_the_list_alone(cli: CliRunner, home: Path) -> None:
    assert cli.invoke(app, ["peers", "--graph", "forget", "x", "--home", str(home)]).exit_code == 2

"""`peers --graph`: the mesh drawn, as a tree of ways in the terminal, as an SVG file, or as the node's own JSON.

Words and lines only: what is drawn is decided by the node (front.graph), and where it stands by layout.py.
"""

from __future__ import annotations

from pathlib import Path

from meshnode.cli import say
from meshnode.cli.daemon import Daemon
from meshnode.cli.graph import report, svg, tree
from meshnode.errors import MeshnodeError

GRAPH = "/mesh/graph"


class NotWritten(MeshnodeError):
    """The file cannot be written."""


def show(daemon: Daemon, as_json: bool, file: Path | None = None) -> None:
    """Print the mesh's graph, or draw it into `file`. Raises NotWritten."""
    document = daemon.get(GRAPH)
    found = report.read(document)
    if file is not None:
        try:
            file.write_text(svg.draw(found), encoding="utf-8")
        except OSError as error:
            raise NotWritten(f"{file}: {error.strerror or error}") from error
    if as_json:
        say.write_json(document)
    elif file is not None:
        print(f"{file}: {len(found.nodes)} nodes, {len(found.edges)} links")
    else:
        print(say.clean("\n".join(tree.lines(found))))

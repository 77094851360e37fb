"""The house rules that a machine can check: who may import whom, which rooms are pure, how large things may grow."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "meshnode"

RANKS = {
    "__main__": 10,
    "cli": 9, "testing": 9,
    "node": 8,
    "front": 7,
    "dispatch": 6,
    "mesh": 5, "engine": 5,
    "net": 4, "observe": 4, "keep": 4,
    "identity": 3, "noise": 3, "mux": 3, "gossip": 3, "routing": 3, "slots": 3, "dialects": 3, "trust": 3, "access": 3,
    "config": 2,
    "model": 1,
    "errors": 0, "version": 0,
}  # fmt: skip
"""A room imports only lower rows; a change here is a visible line of a diff."""

LEAVES = {"observe"}
"""I/O rooms that any other I/O room may use."""

PURE = {"model", "identity", "noise", "mux", "gossip", "routing", "slots", "dialects", "trust", "access", "config"}
IMPURE_MODULES = {
    "trio",
    "socket",
    "time",
    "random",
    "os",
    "logging",
    "threading",
    "asyncio",
    "subprocess",
    "structlog",
}
CONFIG_READS_FILES = {"config"}

ONLY_IMPORTER = {"cbor2": "model/codec.py", "h2": "mux", "noise": "noise", "pynvml": "engine", "quart": "front",
                 "hypercorn": "front", "typer": "cli", "rich": "cli", "segno": "cli/qr.py",
                 "zeroconf": "mesh/multicast.py"}  # fmt: skip
"""A library that is the business of one place."""

BARRIERS = {
    "net/listen.py": "an accepted connection",
    "net/link.py": "a link",
    "net/streams.py": "a stream of a peer: gossip, a question, a job",
    "front/guard.py": "a client's connection",
    "front/exchange.py": "a client's request",
    "mesh/dials.py": "a dialled link; a question to dial back",
    "mesh/tunnels.py": "a tunnel",
    "mesh/discover.py": "multicast, whose library is others' code",
    "mesh/verifiers.py": "a verifier of evidence, which is others' code",
    "dispatch/shared.py": "an answer that several requests share",
    "dispatch/loads.py": "the load of a model that several requests wait for",
}
"""Crash barriers, with what ends there so that its neighbours go on. Everywhere else a fault of ours is not caught."""

MODULE_LINES = 400
FUNCTION_LINES = 60
CONSTRUCTOR_ARGUMENTS = 7

MODULES = sorted(PACKAGE.rglob("*.py"))


NODE = {"node", "description", "presence", "commands", "proofs", "chat", "__init__"}
"""Modules beside the rooms that make one node of them: a room of their own."""


def room_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    name = relative.parts[0] if len(relative.parts) > 1 else relative.stem
    return "node" if name in NODE else name


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, "imports are absolute"
            if node.module == "meshnode":
                yield from ((f"meshnode.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield node.module, node.lineno


def caught(handler: ast.ExceptHandler) -> set[str]:
    """Names of the classes that a handler catches; one without any catches all."""
    if handler.type is None:
        return {"Exception", "BaseException"}
    return {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
class TestModule:
    def test_imports_only_lower_ranks(self, path: Path) -> None:
        room = room_of(path)
        tree = ast.parse(path.read_text())
        for name, line in imports(tree):
            parts = name.split(".")
            if parts[0] != "meshnode" or len(parts) == 1:
                continue
            other = "node" if parts[1] in NODE else parts[1]
            assert other in RANKS, f"{path}:{line}: {other} has no rank"
            leaf = other in LEAVES and room not in PURE
            assert other == room or RANKS[other] < RANKS[room] or leaf, f"{path}:{line}: {room} imports {other}"

    def test_a_pure_room_stays_pure(self, path: Path) -> None:
        room = room_of(path)
        if room not in PURE:
            return
        for name, line in imports(ast.parse(path.read_text())):
            root = name.split(".")[0]
            handed_in = root == "random" and "Random" in path.read_text()
            assert root not in IMPURE_MODULES or handed_in, f"{path}:{line}: a pure room imports {name}"

    def test_a_library_has_one_importer(self, path: Path) -> None:
        relative = str(path.relative_to(PACKAGE))
        for name, line in imports(ast.parse(path.read_text())):
            owner = ONLY_IMPORTER.get(name.split(".")[0])
            assert owner is None or relative.startswith(owner), f"{path}:{line}: {name} belongs to {owner}"

    def test_keeps_its_size(self, path: Path) -> None:
        text = path.read_text()
        assert text.count("\n") <= MODULE_LINES, f"{path} has grown past {MODULE_LINES} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                assert length <= FUNCTION_LINES, f"{path}:{node.lineno}: {node.name} has {length} lines"
                if node.name == "__init__":
                    arguments = len(node.args.args) + len(node.args.kwonlyargs) - 1
                    assert arguments <= CONSTRUCTOR_ARGUMENTS, f"{path}:{node.lineno}: {arguments} arguments"

    def test_opens_with_what_it_is_for(self, path: Path) -> None:
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path} does not say what it is for"

    def test_points_to_modules_that_there_are(self, path: Path) -> None:
        for name in re.findall(r"\b[a-z_]+\.py\b", ast.get_docstring(ast.parse(path.read_text())) or ""):
            beside = (path.parent / name, PACKAGE / name)
            assert any(map(Path.exists, beside)), f"{path} speaks of {name}, which is not beside it"

    def test_catches_everything_only_at_a_crash_barrier(self, path: Path) -> None:
        lines = path.read_text().splitlines()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and "Exception" in caught(node):
                barrier = str(path.relative_to(PACKAGE)) in BARRIERS and "crash barrier" in lines[node.lineno - 1]
                assert barrier, f"{path}:{node.lineno}: too broad"

    def test_cleans_up_after_everything_only_to_let_it_go_on(self, path: Path) -> None:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and "BaseException" in caught(node):
                last = node.body[-1]
                goes_on = isinstance(last, ast.Raise) and last.exc is None
                assert goes_on, f"{path}:{node.lineno}: cancellation would end here"


def test_every_crash_barrier_that_is_named_stands() -> None:
    assert [path for path in BARRIERS if "crash barrier" not in (PACKAGE / path).read_text()] == []


def test_every_room_has_a_rank() -> None:
    assert {room_of(path) for path in MODULES} <= set(RANKS)

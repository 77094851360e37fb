"""What is measured, as data: meshes of real `meshnode up` processes, and how a started one looks to a load.

LiteLLM, a target of the same form, is in peers.py. Not for loads (phases.py).
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import gauge
from benchmarks.build import BenchError, Tools
from benchmarks.child import Child, free_port, running

READY_S = 30.0
ANSWER_S = 30.0
"""From a process that is ready to an answer through it: gossip needs 2 s at most, the rest is patience."""

ENGINE_SLOTS = "1024"
"""The fake engine answers so many at once; the nodes are told, should they not find it out."""


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One node of a mesh: whether it fronts the engine, whether it listens, and by whose invite it joins."""

    name: str
    engine: bool = False
    listens: bool = False
    joins: str | None = None


@dataclass(frozen=True, slots=True)
class MeshPlan:
    """Nodes in the order in which they start, and the one that is asked. `relay_class`: how requests pass relays."""

    name: str
    title: str
    nodes: tuple[NodePlan, ...]
    entry: str
    relay_class: str = "sealed"


_BEHIND_A_RELAY = (NodePlan("R", listens=True), NodePlan("B", engine=True, joins="R"), NodePlan("A", joins="R"))
"""Only R listens, so A reaches B through R alone."""

MESHES = {
    plan.name: plan
    for plan in (
        MeshPlan("local", "local hop", (NodePlan("A", engine=True),), entry="A"),
        MeshPlan(
            "hop1",
            "one mesh hop",
            (NodePlan("B", engine=True, listens=True), NodePlan("A", joins="B")),
            entry="A",
        ),
        MeshPlan("hop2", "two hops, sealed", _BEHIND_A_RELAY, entry="A"),
        MeshPlan("hop2-open", "two hops, open", _BEHIND_A_RELAY, entry="A", relay_class="open"),
    )
}


@dataclass(frozen=True, slots=True)
class Target:
    """A running thing to put load on. Processes under test by name, the one asked first."""

    name: str
    title: str
    port: int
    children: Mapping[str, Child] = field(default_factory=dict)
    start_s: float = 0.0  # from the start of the process that is asked to its first answer

    @property
    def pids(self) -> dict[str, int]:
        return {name: child.pid for name, child in self.children.items()}

    def resident_mb(self) -> dict[str, float]:
        """Memory of each process now."""
        return {name: gauge.resident_mb(pid) for name, pid in self.pids.items()}


@contextmanager
def engine(tools: Tools, directory: Path) -> Iterator[Target]:
    """The fake engine, which is also the target `direct`."""
    with running("engine", [str(tools.engine)], directory, dict(os.environ)) as child:
        port = int(child.wait_ready(READY_S)["port"])
        yield Target("direct", "engine directly", port, {"engine": child})


@contextmanager
def mesh(
    plan: MeshPlan, engine_port: int, directory: Path, surroundings: Mapping[str, str] = os.environ
) -> Iterator[Target]:
    """All nodes of a plan, joined, with an answer already come through the entry. `surroundings`: the environment."""
    environment = {name: value for name, value in surroundings.items() if not name.startswith("MESHNODE_")}
    environment["MESHNODE_ENGINE__DEFAULT_SLOTS"] = ENGINE_SLOTS
    environment["MESHNODE_MESH__RELAY_CLASS"] = plan.relay_class
    ports = {node.name: free_port() for node in plan.nodes}
    children: dict[str, Child] = {}
    began = time.monotonic()
    with ExitStack() as stack:
        for node in plan.nodes:
            home = directory / plan.name / node.name
            home.mkdir(parents=True, mode=0o700)  # a node refuses a home that others may read
            if node.joins is not None:
                token = _meshnode(["invite", "--home", str(home.parent / node.joins)], environment, home)
                _meshnode(["join", token, "--home", str(home)], environment, home)
            began = time.monotonic()
            command = up_command(node, home, ports[node.name], engine_port)
            child = stack.enter_context(running(f"{plan.name}-{node.name}", command, directory, environment))
            child.wait_ready(READY_S)
            children[node.name] = child
        first_answer(ports[plan.entry], children[plan.entry])
        start_s = time.monotonic() - began
        ordered = {name: children[name] for name in sorted(children, key=lambda name: name != plan.entry)}
        yield Target(plan.name, plan.title, ports[plan.entry], ordered, start_s)


def up_command(node: NodePlan, home: Path, api_port: int, engine_port: int) -> list[str]:
    """The command line that starts a node."""
    listen = f"127.0.0.1:{free_port()}" if node.listens else "none"
    command = [
        sys.executable,
        "-m",
        "meshnode",
        "up",
        "--home",
        str(home),
        "--api",
        f"127.0.0.1:{api_port}",
        "--no-mdns",
    ]
    command += ["--mesh", listen, "--log-format", "json"]
    # "none" would leave out the engine given by URL too; with it found, nothing else is started.
    return [*command, *(["--engine-url", f"http://127.0.0.1:{engine_port}"] if node.engine else ["--engines", "none"])]


def _meshnode(arguments: list[str], environment: Mapping[str, str], directory: Path) -> str:
    command = [sys.executable, "-m", "meshnode", *arguments]
    try:
        done = subprocess.run(
            command, env=environment, cwd=directory, capture_output=True, text=True, timeout=READY_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"meshnode {arguments[0]} did not end within {READY_S:.0f} s") from error
    if done.returncode:
        raise BenchError(f"meshnode {arguments[0]} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout.strip()


def first_answer(port: int, child: Child, within_s: float = ANSWER_S) -> None:
    """Return once a chat completion comes through. Raises BenchError with the last refusal when none does."""
    body = json.dumps({"model": "bench", "messages": [{"role": "user", "content": "Hello"}]})
    give_up = time.monotonic() + within_s
    said = "nothing"
    while time.monotonic() < give_up:
        child.check()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            said = f"{answer.status} {answer.read(500).decode(errors='replace')}"
            if answer.status == 200:
                return
        except (OSError, http.client.HTTPException) as error:
            said = repr(error)
        finally:
            connection.close()
        time.sleep(0.02)
    raise BenchError(f"{child.name} gave no answer within {within_s:.0f} s; it last said: {said}")

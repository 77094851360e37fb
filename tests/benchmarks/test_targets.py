"""The meshes are such that a request takes the way their title says."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.targets import MESHES, MeshPlan, NodePlan, up_command


@pytest.mark.parametrize("plan", MESHES.values(), ids=list(MESHES))
def test_nodes_join_only_listeners_that_run_already(plan: MeshPlan) -> None:
    listening: set[str] = set()
    for node in plan.nodes:
        assert node.joins is None or node.joins in listening
        listening |= {node.name} if node.listens else set()
    assert plan.entry in {node.name for node in plan.nodes}
    assert sum(node.engine for node in plan.nodes) == 1


def test_two_hops_leave_no_shorter_way() -> None:
    assert MESHES["hop2"].nodes == MESHES["hop2-open"].nodes
    by_name = {node.name: node for node in MESHES["hop2"].nodes}
    assert not by_name["A"].listens
    assert not by_name["B"].listens
    assert by_name["A"].joins == by_name["B"].joins == "R"


def test_a_node_with_the_engine_is_given_its_address() -> None:
    command = up_command(NodePlan("A", engine=True), Path("home"), api_port=7001, engine_port=7002)
    assert command[command.index("--engine-url") + 1] == "http://127.0.0.1:7002"
    assert command[command.index("--api") + 1] == "127.0.0.1:7001"
    assert command[command.index("--mesh") + 1] == "none"
    assert "--engines" not in command


def test_a_listener_without_an_engine_has_an_address_of_its_own() -> None:
    command = up_command(NodePlan("R", listens=True), Path("home"), api_port=7001, engine_port=7002)
    assert "--engine-url" not in command
    assert command[command.index("--engines") + 1] == "none"
    assert command[command.index("--mesh") + 1].startswith("127.0.0.1:")

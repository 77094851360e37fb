"""One core per node where there are enough, no pinning where there are not."""

from __future__ import annotations

from benchmarks.cores import layout


def test_two_cores_are_enough_for_one_node() -> None:
    found = layout({4, 5}, nodes=1)
    assert found.pinned
    assert (found.load, found.nodes) == ({4}, ({5},))


def test_two_cores_are_too_few_for_two_nodes() -> None:
    found = layout({0, 1}, nodes=2)
    assert not found.pinned
    assert (found.load, found.nodes) == ({0, 1}, ({0, 1}, {0, 1}))


def test_every_node_has_a_core_of_its_own() -> None:
    found = layout(range(8), nodes=3)
    assert [found.load, *found.nodes] == [{0}, {1}, {2}, {3}]

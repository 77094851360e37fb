"""The stages of a local request are all there, in an order that makes sense."""

from __future__ import annotations

from benchmarks import stages, ways


def test_each_stage_takes_some_time_and_the_whole_takes_most() -> None:
    found = stages.measure(quick=True).us
    assert all(us > 0 for us in found.values())
    assert list(found)[-1] == "the whole request"
    lines = stages.stages_table(stages.Stages(found)).splitlines()
    assert len(lines) == len(found) + 2


def test_ways_are_measured_on_a_mesh_that_changes() -> None:
    found = ways.measure(quick=True)
    assert all(change.worst_ms >= change.ways_ms > 0 for change in found.changes.values())
    lines = ways.ways_table(found).splitlines()
    assert [kind for kind in found.changes if not any(kind in line for line in lines)] == []

"""Where settings come from, which wins, and that every fault is told at once."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from meshnode.config import Config, load
from meshnode.config.load import SECTIONS
from meshnode.dispatch.wire import MAX_HOPS
from meshnode.errors import ConfigError


def test_nothing_given_is_the_defaults() -> None:
    assert load() == Config()
    assert load(Path("/nowhere/config.toml")) == Config()


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[mesh]\nlisten = "a:1"\npeers = ["x:1"]\n[front]\nkeepalive_s = 5\n')
    environment = {"MESHNODE_MESH__LISTEN": "b:2", "MESHNODE_NODE__NAME": "bee", "HOME": "/", "MESHNODE_HOME": "/x"}
    config = load(file, environment, {"mesh": {"listen": "c:3"}})
    assert (config.mesh.listen, config.mesh.peers, config.node.name) == ("c:3", ("x:1",), "bee")
    assert config.front.keepalive_s == 5.0
    assert config.origins == {
        "mesh.listen": "command line", "mesh.peers": str(file), "front.keepalive_s": str(file),
        "node.name": "MESHNODE_NODE__NAME",
    }  # fmt: skip


def test_the_environment_speaks_in_text_of_numbers_lists_and_switches() -> None:
    environment = {"MESHNODE_ENGINE__PROBE_S": "2.5", "MESHNODE_ENGINE__URLS": "http://a, http://b"}
    config = load(environment={**environment, "MESHNODE_MESH__RELAY": "false"})
    assert (config.engine.probe_s, config.engine.urls, config.mesh.relay) == (2.5, ("http://a", "http://b"), False)


def test_every_fault_is_told_with_its_origin(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("loose = 1\n[mesh]\nlisten = 5\nports = 1\n[engine]\nprobe_s = -1\n")
    with pytest.raises(ConfigError) as caught:
        load(file, {"MESHNODE_DISPATCH__RETRIES": "many"}, {"kitchen": {"sink": 1}})
    faults = "\n".join(caught.value.faults)
    for part in ("loose is not a section", "mesh.listen", "mesh.ports", "engine.probe_s", "dispatch.retries",
                 "kitchen.sink", "MESHNODE_DISPATCH__RETRIES", "command line"):  # fmt: skip
        assert part in faults
    assert len(caught.value.faults) == 6


def test_a_file_that_is_no_toml_is_one_fault(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("= nonsense")
    with pytest.raises(ConfigError, match=r"config\.toml"):
        load(file)


@pytest.mark.parametrize("name", SECTIONS)
def test_every_default_has_its_reason(name: str) -> None:
    """The line above a field, or above the run of fields it belongs to, is a comment."""
    lines = inspect.getsource(SECTIONS[name]).splitlines()
    fields = [number for number, line in enumerate(lines) if re.match(r"    \w+: .+ = ", line)]
    assert fields
    for number in fields:
        above = number - 1
        while above in fields:
            above -= 1
        assert lines[above].strip().startswith("#"), lines[number]


def test_aliases_are_read_and_a_misspelt_one_is_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        '[routing.aliases.coder]\nlabel = "internal"\n'
        'tiers = [["qwen@tower", { model = "qwen", min_quant = "q5" }], ["llama"]]\n'
    )
    alias = load(file).routing.aliases["coder"]
    assert [len(tier) for tier in alias.tiers] == [2, 1]
    assert (alias.tiers[0][0], alias.label) == ("qwen@tower", "internal")
    file.write_text('[routing]\nsensitive_nodes = ["tower"]\n[routing.aliases.coder]\ntiers = [["a"]]\nlable = "x"\n')
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert len(caught.value.faults) == 2


def test_what_has_a_form_is_asked_for_in_words() -> None:
    with pytest.raises(ConfigError) as caught:
        load(flags={"sharing": {"schedule": ["25:00-26:00"]}, "routing": {"sensitive_nodes": ["studio"]}})
    schedule, nodes = caught.value.faults
    assert "a period such as 'mon-fri 09:00-18:00'" in schedule and "a whole node id" in nodes
    assert "regex" not in schedule + nodes


def test_no_more_hops_are_asked_for_than_any_node_grants() -> None:
    assert load(flags={"dispatch": {"hops": MAX_HOPS}}).dispatch.hops == MAX_HOPS
    with pytest.raises(ConfigError, match=r"dispatch\.hops"):
        load(flags={"dispatch": {"hops": MAX_HOPS + 1}})

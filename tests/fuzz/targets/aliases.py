"""Aliases out of a configuration file: refused in words that name the place, or rules whose every bound holds."""

from __future__ import annotations

import tomllib
from typing import Any

from meshnode.config import load
from meshnode.errors import ConfigError
from meshnode.model.job import Label
from meshnode.routing.aliases import Aliases
from tests.fuzz.kit import Draw, in_words, mutate

WHOLE = b"""
[routing.aliases.coder]
label = "internal"
spill_after_s = 2.5
max_price = 0.5
own_machines = true
tiers = [
  ["qwen@tower", { model = "qwen", min_quant = "q5", weight = 2, min_context = 4096, node = "n" }],
  ["llama:q4"],
]
"""
SHORT = b'[routing.aliases]\na = { tiers = [["m"]] }\nb = { tiers = [["a"]], label = "sensitive" }\n'


def one_input(data: bytes) -> None:
    draw = Draw(data)
    text = draw.rest() if draw.flag() else mutate((WHOLE, SHORT)[draw.number(2)], draw)
    try:
        aliases = tomllib.loads(text.decode()).get("routing", {}).get("aliases", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError, AttributeError):
        return
    _read(aliases)


def _read(aliases: Any) -> None:
    try:
        section = load(flags={"routing": {"aliases": aliases}}).routing
    except ConfigError as error:
        in_words(error)
        return
    rules = Aliases(section).rules
    assert len(rules) <= 256 and set(rules) == set(aliases)
    for name, rule in rules.items():
        assert 0 < len(name) <= 128 and rule.label in Label and rule.spill_after_s >= 0
        assert 0 < len(rule.tiers) <= 8
        assert rule.demands.most_price_micro is None or rule.demands.most_price_micro >= 0
        for choice in (one for tier in rule.tiers for one in tier):
            assert 0 < len(choice.model) <= 128 and 0.01 <= choice.weight <= 100
            assert choice.context >= 0 and 0 <= choice.quant_bits <= 32


def seeds() -> dict[str, bytes]:
    """An alias with everything, short ones, and wrong ones."""
    return {
        "whole": b"\x00\x00",
        "short": b"\x00\x01",
        "nan": b'\x01[routing.aliases.a]\ntiers=[["m"]]\nmax_price = nan\nspill_after_s = inf\n',
        "pin-alone": b'\x01[routing.aliases.a]\ntiers=[["@n"]]\n',
        "empty": b'\x01[routing.aliases.""]\ntiers=[[]]\n',
        "wrong-kind": b"\x01[routing]\naliases = [1]\n",
        "weight": b'\x01[routing.aliases.a]\ntiers=[[{ model = "m", weight = 1e400, min_quant = "zz" }]]\n',
    }

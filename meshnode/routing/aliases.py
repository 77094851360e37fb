"""What configured aliases mean: rules for a job, and tiers of limited choices in the order of preference. Pure.

An alias goes before a model of the same name, and its rules hold for that name whoever offers it: what this machine's
owner decided is not undone by another node's advert. Not for reading names (asked.py). Counterpart: config.aliases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from meshnode.config.aliases import Alias, Entry
from meshnode.config.routing import RoutingSection
from meshnode.model.job import Demands, Job, Label, stricter
from meshnode.model.names import split_pin
from meshnode.model.quant import least_bits, split_quant

_MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Choice:
    """One entry of a tier: a model, perhaps at one node (its pin), and what its server must have."""

    model: str
    pin: str | None = None
    quant_bits: int = 0
    context: int = 0
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Rule:
    """One alias, read."""

    name: str
    tiers: tuple[tuple[Choice, ...], ...]
    label: Label
    demands: Demands
    spill_after_s: float


class Aliases:
    """Every alias of this node, and the rule that holds for all of its requests."""

    def __init__(self, section: RoutingSection) -> None:
        self._rules = {name: _rule(name, alias) for name, alias in section.aliases.items()}
        self._always = Demands(own_machines=section.own_machines)

    @property
    def rules(self) -> Mapping[str, Rule]:
        """By name."""
        return self._rules

    def models(self) -> dict[str, list[str]]:
        """The models behind each, for lists."""
        return {name: [one.model for tier in rule.tiers for one in tier] for name, rule in self._rules.items()}

    def get(self, name: str) -> Rule | None:
        """The alias of exactly this name."""
        return self._rules.get(name)

    def constrain(self, job: Job) -> Job:
        """The job under the rules of the alias it names, if it names one. What it asks itself holds too, so that the
        stricter wins."""
        if not self._rules and not self._always.own_machines:
            return job
        demands = job.demands.both(self._always) if self._always.own_machines else job.demands
        rule = self._ruling(job.facts.model)
        if rule is None:
            return job if demands is job.demands else replace(job, demands=demands)
        return replace(job, label=stricter(job.label, rule.label), demands=demands.both(rule.demands))

    def _ruling(self, model: str) -> Rule | None:
        if not self._rules:
            return None
        name, _ = split_pin(model)
        for spelled in (model, name, split_quant(name)[0]):
            if spelled in self._rules:
                return self._rules[spelled]
        return None


def _rule(name: str, alias: Alias) -> Rule:
    price = alias.max_price
    demands = Demands(
        most_price_micro=int(price * _MICRO) if price is not None else None, own_machines=alias.own_machines
    )
    tiers = tuple(tuple(_choice(entry) for entry in tier) for tier in alias.tiers)
    return Rule(name, tiers, Label(alias.label), demands, alias.spill_after_s)


def _choice(entry: str | Entry) -> Choice:
    if isinstance(entry, str):
        model, pin = split_pin(entry)
        return Choice(model, pin)
    bits = least_bits(entry.min_quant) if entry.min_quant else 0
    return Choice(entry.model, entry.node or None, bits, entry.min_context, entry.weight)

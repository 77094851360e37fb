"""What the name in a request means: a model, an alias, `name@node`, `name:q5`. Never fuzzy. Pure; requests.md §1.

Counterparts: aliases.py (this node's own names), eligible.py (who of those meant may serve).
"""

from __future__ import annotations

from dataclasses import dataclass

from meshnode.model.ids import NodeId
from meshnode.model.names import split_pin
from meshnode.model.quant import split_quant
from meshnode.model.view import View
from meshnode.routing.aliases import Aliases, Choice, Rule
from meshnode.routing.offers import Candidate, Offers


@dataclass(frozen=True, slots=True)
class Branch:
    """Candidates that offer one model, and which of them count: `pinned` (None: all), at least so many bits a weight
    and tokens of context. `weight` is the owner's preference.

    Where candidates are only those that a decision looks at, each stands for `stands_for` of all, but for `leads`.
    """

    model: str
    candidates: list[Candidate]
    pinned: frozenset[NodeId] | None = None
    quant_bits: int = 0
    context: int = 0
    weight: float = 1.0
    leads: frozenset[NodeId] = frozenset()
    stands_for: float = 1.0

    @property
    def bound(self) -> bool:
        """Whether another server of the same model would not do as well."""
        return self.pinned is not None or self.quant_bits > 0 or self.context > 0


@dataclass(frozen=True, slots=True)
class Asked:
    """A name read: without pin and quant, the nodes that the pin means (None: no pin), and who is meant, in tiers.

    An alias has one branch for each entry; every other name has one tier of one branch. `most`: candidates of the
    branch that has most.
    """

    model: str
    pin: str | None
    pinned: frozenset[NodeId] | None
    tiers: tuple[tuple[Branch, ...], ...]
    rule: Rule | None = None
    most: int = 0

    @property
    def candidates(self) -> list[Candidate]:
        """Everybody who offers what is asked for, whether it counts or not."""
        if len(self.tiers) == 1 and len(self.tiers[0]) == 1:
            return self.tiers[0][0].candidates
        return [one for tier in self.tiers for branch in tier for one in branch.candidates]


def read_name(model: str, view: View, offers: Offers, aliases: Aliases) -> Asked:
    """Take a name apart: an alias or the whole as some node offers it, else without `@node`, else without `:q5`.

    A pin is a node's name, its id, or the short form of its id; names are not unique, so it may mean several.
    """
    whole = _known(model, None, None, 0, view, offers, aliases)
    if whole is not None:
        return whole
    name, pin = split_pin(model)
    pinned = _nodes(pin, view) if pin is not None else None
    plain, bits = split_quant(name)
    found = _known(name, pin, pinned, 0, view, offers, aliases)
    if found is None and bits:
        found = _known(plain, pin, pinned, bits, view, offers, aliases)
    return found or Asked(name, pin, pinned, ((Branch(name, [], pinned),),))


def _known(
    name: str,
    pin: str | None,
    pinned: frozenset[NodeId] | None,
    bits: int,
    view: View,
    offers: Offers,
    aliases: Aliases,
) -> Asked | None:
    rule = aliases.get(name)
    if rule is not None:
        tiers = tuple(tuple(_branch(one, pinned, bits, view, offers) for one in tier) for tier in rule.tiers)
        most = max((len(branch.candidates) for tier in tiers for branch in tier), default=0)
        return Asked(name, pin, pinned, tiers, rule, most)
    candidates = offers.named(name)
    if not candidates:
        return None
    return Asked(name, pin, pinned, ((Branch(name, candidates, pinned, bits),),), None, len(candidates))


def _branch(choice: Choice, pinned: frozenset[NodeId] | None, bits: int, view: View, offers: Offers) -> Branch:
    """The nodes that an entry means, less those that the request's own pin does not."""
    if choice.pin is not None:
        meant = _nodes(choice.pin, view)
        pinned = meant if pinned is None else meant & pinned
    candidates = offers.named(choice.model)
    return Branch(choice.model, candidates, pinned, max(bits, choice.quant_bits), choice.context, choice.weight)


def _nodes(pin: str, view: View) -> frozenset[NodeId]:
    return frozenset(
        node for node, advert in view.adverts.items() if pin in (advert.name, node.short) or pin.lower() == node.text
    )

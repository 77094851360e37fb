"""The error for a job that nobody may serve: which kind it is, and words that let its reader act. Pure.

Counterpart: plan.py, which has the exclusions. Not for errors of servers that were tried (dispatch).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from meshnode.errors import (
    BadRequest,
    ContextExceeded,
    EngineDown,
    ModelNotFound,
    NoEligibleNode,
    NoPeerReachable,
    RequestError,
)
from meshnode.model.job import Facts
from meshnode.model.names import closest
from meshnode.model.view import View
from meshnode.routing.asked import Asked
from meshnode.routing.eligible import LASTING, RULES
from meshnode.routing.offers import Candidate, Exclusion, Offers


def refusal(
    facts: Facts,
    view: View,
    asked: Asked,
    offers: Offers,
    exclusions: Sequence[Exclusion],
    named: int,
    aliases: Collection[str] = (),
    lately: Sequence[str] = (),
) -> RequestError:
    """The error to answer with; at most `named` nodes or models are spelled out in it.

    404 if nobody offers the model, 503 if those named in `lately` did until then, or if somebody who has all it takes
    is kept away only by the moment or by the request's rules, 400 if the request asks for more than anybody offers.
    """
    if asked.rule is not None and not asked.candidates:
        return _nothing_behind(asked, named)
    if lately and not asked.candidates:
        return NoPeerReachable(
            f"No node offers '{asked.model}' now; until lately it was offered by {_some(lately, named)}."
        )
    if not asked.candidates or (asked.pinned is not None and not asked.pinned & {c.node for c in asked.candidates}):
        return _not_found(view, asked, offers, named, aliases)
    passing = [exclusion for exclusion in exclusions if exclusion.code not in LASTING]
    if passing and all(exclusion.code in RULES for exclusion in passing):
        return _ruled_out(view, asked, passing, named)
    if passing:
        down = all(exclusion.code == "engine" for exclusion in passing if exclusion.code not in RULES)
        return (_down if down else _unreachable)(view, asked, passing, named)
    if any(exclusion.code == "context" for exclusion in exclusions):
        return _too_long(facts, asked)
    missing = sorted(facts.needs - frozenset().union(*(c.features for c in _meant(asked))))
    # Where each feature is offered, but never together, naming one would be wrong.
    what = ", ".join(missing or sorted(facts.needs))
    return BadRequest(f"The model '{asked.model}' is offered without: {what}.", param="model")


def _meant(asked: Asked) -> list[Candidate]:
    return [c for c in asked.candidates if asked.pinned is None or c.node in asked.pinned]


def _nothing_behind(asked: Asked, named: int) -> NoPeerReachable:
    models = list(dict.fromkeys(branch.model for tier in asked.tiers for branch in tier))
    return NoPeerReachable(f"No node offers a model of the alias '{asked.model}' now: {_some(models, named)}.")


def _not_found(view: View, asked: Asked, offers: Offers, named: int, aliases: Collection[str]) -> ModelNotFound:
    text = f"The model '{asked.model}' does not exist in this mesh."
    hint = closest(asked.model, [*offers.by_name, *aliases])
    if asked.pin is not None and not asked.pinned:
        names = {advert.name for advert in view.adverts.values() if advert.name}
        text, hint = f"There is no node '{asked.pin}' in this mesh.", closest(asked.pin, names)
    elif asked.candidates:
        having = sorted({view.name(candidate.node) for candidate in asked.candidates})
        text = f"The node '{asked.pin}' does not offer the model '{asked.model}'; offered by: {_some(having, named)}."
        hint = None
    elif hint is None and offers.by_name:
        text += f" It offers: {_some(sorted(offers.by_name), named)}."
    elif hint is None:
        text += " No node offers any model now."
    if hint is not None:
        text += f" Did you mean '{hint}'?"
    return ModelNotFound(text, param="model")


def _too_long(facts: Facts, asked: Asked) -> RequestError:
    longest = max((c.context for c in _meant(asked) if facts.needs <= c.features), default=0)
    if longest >= facts.prompt_tokens:
        return NoEligibleNode(
            f"No node serves as much context as '{asked.model}' asks for; the most is {longest} tokens."
        )
    return ContextExceeded(
        f"This model's maximum context length is {longest} tokens. However, your prompt has about"
        f" {facts.prompt_tokens} tokens. Please reduce its length.",
        param="messages",
    )


def _down(view: View, asked: Asked, passing: Sequence[Exclusion], named: int) -> EngineDown:
    reasons = [f"{view.name(exclusion.node)} {exclusion.text}" for exclusion in passing]
    return EngineDown(
        f"No engine serves '{asked.model}' now: {_some(reasons, named, '; ')}. Start it there, or ask again later."
    )


def _unreachable(view: View, asked: Asked, passing: Sequence[Exclusion], named: int) -> NoPeerReachable:
    reasons = [f"{view.name(exclusion.node)} {exclusion.text}" for exclusion in passing]
    return NoPeerReachable(f"No node can serve '{asked.model}' now: {_some(reasons, named, '; ')}.")


def _ruled_out(view: View, asked: Asked, passing: Sequence[Exclusion], named: int) -> NoEligibleNode:
    reasons = [f"{view.name(exclusion.node)} {exclusion.text}" for exclusion in passing]
    return NoEligibleNode(f"No node may serve '{asked.model}' as this was asked: {_some(reasons, named, '; ')}.")


def _some(words: Sequence[str], most: int, joint: str = ", ") -> str:
    left = len(words) - most
    shown = joint.join(words[:most])
    return f"{shown}{joint if shown else ''}and {left} more" if left > 0 else shown

"""Whether a commercial API may be asked once the mesh cannot answer, which, and what is left to spend. Pure.

The last tier: never before this node and its peers, never for what its label keeps inside, never beyond the day's
budget. Not for asking (engine.cloud). Counterpart: dispatch, which reserves before and settles after. requests.md §1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from meshnode.config.cloud import CloudModel, CloudProvider, CloudSection
from meshnode.errors import ContextExceeded, ModelNotFound, RequestError
from meshnode.model.job import Facts, Job, Label
from meshnode.model.names import same_model

MICRO = 1_000_000
"""Millionths of the currency: sums of small prices must be exact."""

_OPENNESS = {"public": (Label.PUBLIC,), "internal": (Label.PUBLIC, Label.INTERNAL)}


@dataclass(frozen=True, slots=True)
class CloudChoice:
    """One provider's model for one job, and what it may cost at most, in millionths."""

    provider: str
    model: str
    most_micro: int


@dataclass(frozen=True, slots=True)
class Spent:
    """What was spent on one day. `day` counts UTC days since 1970."""

    day: int = 0
    micro: int = 0


def worth_asking(refused: RequestError) -> bool:
    """Whether what the mesh ended with may be cured outside it: another server, or a model or context that no node
    has. A request that is wrong, forbidden or out of time is so everywhere."""
    return refused.elsewhere or isinstance(refused, ModelNotFound | ContextExceeded)


class Fallback:
    """The choice and the purse. `spent` is what is to be kept over a restart."""

    def __init__(self, section: CloudSection, spent: Spent = Spent()) -> None:
        self.spent = spent
        self._section = section
        self._reserved = 0

    def choose(self, job: Job, day: int) -> tuple[list[CloudChoice], list[str]]:
        """Providers to ask, in order, and why each of the others that has the model may not be asked."""
        chosen: list[CloudChoice] = []
        excluded: list[str] = []
        for provider in self._section.providers:
            for model in provider.models:
                if not same_model(job.facts.model, model.name):
                    continue
                most = self._most_micro(job.facts, model)
                fault = self._fault(job, model, most, day)
                if fault:
                    excluded.append(f"{provider.name} {fault}")
                else:
                    chosen.append(CloudChoice(provider.name, model.model or model.name, most))
        return chosen, excluded

    def reserve(self, choice: CloudChoice, day: int) -> bool:
        """Set aside what it may cost; False when that is no longer there. Settle it in any case."""
        if self._left(day) < choice.most_micro:
            return False
        self._reserved += choice.most_micro
        return True

    def settle(self, choice: CloudChoice, prompt_tokens: int | None, answer_tokens: int | None, day: int) -> Spent:
        """It is over. None where the provider did not say how many: then the most is taken to be spent, since nobody
        can know. Both 0: nothing was asked."""
        self._reserved -= choice.most_micro
        micro = choice.most_micro
        if prompt_tokens is not None and answer_tokens is not None:
            model = self._model(choice)
            micro = _price(model, prompt_tokens, answer_tokens) if model is not None else choice.most_micro
        before = self.spent.micro if self.spent.day == day else 0
        self.spent = Spent(day, before + micro)
        return self.spent

    def state(self, day: int) -> Mapping[str, float]:
        """For status pages, in the currency's unit."""
        return {"budget": self._section.budget, "left": max(0, self._left(day)) / MICRO}

    def _fault(self, job: Job, model: CloudModel, most: int, day: int) -> str:
        if job.label not in _OPENNESS[self._section.label]:
            return f"is outside the mesh, and the request is {job.label.value}"
        if job.demands.own_machines:
            return "is nobody's own machine"
        if job.demands.quant_bits:
            return "does not say how its weights are quantised"
        price = round(max(model.input_price, model.output_price) * MICRO)
        if job.demands.most_price_micro is not None and price > job.demands.most_price_micro:
            return "costs more than the request allows"
        missing = sorted(job.facts.needs - set(model.features))
        if missing:
            return f"is not configured for {', '.join(missing)}"
        if 0 < model.context < job.facts.prompt_tokens:
            return f"takes {model.context} tokens, the prompt has about {job.facts.prompt_tokens}"
        if most > self._left(day):
            return "would cost more than is left of today's budget"
        return ""

    def _left(self, day: int) -> int:
        spent = self.spent.micro if self.spent.day == day else 0
        return round(self._section.budget * MICRO) - spent - self._reserved

    def _most_micro(self, facts: Facts, model: CloudModel) -> int:
        return _price(model, facts.prompt_tokens, facts.max_tokens or self._section.usual_tokens)

    def _model(self, choice: CloudChoice) -> CloudModel | None:
        found: list[CloudProvider] = [p for p in self._section.providers if p.name == choice.provider]
        return next((m for p in found for m in p.models if choice.model == (m.model or m.name)), None)


def _price(model: CloudModel, prompt_tokens: int, answer_tokens: int) -> int:
    """Of so many tokens, in millionths: a price for a million tokens is millionths for one."""
    return round(prompt_tokens * model.input_price + answer_tokens * model.output_price)

"""Whoever a request comes from, as far as its key says: in whose name it asks, and within which bounds.

Not for finding the key (ring) nor for making the job (front.handlers), which asks here what it may hold.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from meshnode.model.job import Label, Priority, stricter
from meshnode.model.names import same_model, split_pin


class Scope(enum.StrEnum):
    """What a key is for: to ask models, or to look at and command this node."""

    INFER = "infer"
    ADMIN = "admin"


EVERYTHING = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Caller:
    """`key` is a key's public id, "" where no key was needed; `owner` "" for this machine's. No `models`: all of them.

    `priority` is the tier of what comes with the key, None where the request chooses. Times are this key's most, None
    where it sets none.
    """

    key: str = ""
    owner: str = ""
    scopes: frozenset[Scope] = EVERYTHING
    models: tuple[str, ...] = ()
    label: Label = Label.PUBLIC
    priority: Priority | None = None
    timeout_s: float | None = None
    first_token_s: float | None = None
    silence_s: float | None = None

    def may_ask(self, model: str) -> bool:
        """Whether it may ask for a model of this name: as it is listed, or behind a pin; `name*` lists all that begin
        so. An alias counts by its own name."""
        if not self.models:
            return True
        spelled = {model, split_pin(model)[0]}
        return any(_fits(listed, name) for listed in self.models for name in spelled)

    def labelled(self, asked: Label) -> Label:
        """The stricter of the request's label and the key's."""
        return stricter(asked, self.label)

    def tier(self, asked: Priority | None) -> Priority:
        """The tier of a request: a key's own unless less was asked for."""
        if self.priority is None:
            return Priority.NORMAL if asked is None else asked
        return self.priority if asked is None else max(self.priority, asked)


def at_most(asked_s: float | None, most_s: float | None) -> float | None:
    """The shorter of two times, of which either may be missing."""
    if asked_s is None or most_s is None:
        return most_s if asked_s is None else asked_s
    return min(asked_s, most_s)


def _fits(listed: str, name: str) -> bool:
    return name.startswith(listed[:-1]) if listed.endswith("*") else same_model(listed, name)


OPEN = Caller()
"""Whoever reaches a node that asks for no keys."""

OPERATOR = Caller()
"""Whoever shows the node's control secret: this machine's user, whose command line it is."""

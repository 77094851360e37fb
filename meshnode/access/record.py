"""One API key as it is kept: a hash of it, whose it is, what it is for and within which bounds, and until when.

Not for the key itself, which is shown once and kept nowhere. Counterparts: ring (all of them), keep.api_keys.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from meshnode.access.caller import Caller, Scope
from meshnode.model.job import Label, Priority
from meshnode.model.owner import MAX_OWNER, RULE, is_owner

MOST_MODELS: Final = 32

LONGEST_S: Final = 10 * 365 * 86_400
"""A key that shall live longer needs no end at all."""

Model = Annotated[str, Meta(min_length=1, max_length=128)]
_Time = Annotated[int, Meta(ge=0, le=2**53)]
_Patience = Annotated[float, Meta(gt=0, le=86_400)]


class Terms(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a key lets its holder do (Caller says what each means)."""

    owner: Annotated[str, Meta(min_length=1, max_length=MAX_OWNER)]
    scopes: Annotated[tuple[Scope, ...], Meta(min_length=1, max_length=len(Scope))] = (Scope.INFER,)
    models: Annotated[tuple[Model, ...], Meta(max_length=MOST_MODELS)] = ()
    label: Label = Label.PUBLIC
    priority: Literal["high", "normal", "low"] = "normal"
    timeout_s: _Patience | None = None
    first_token_s: _Patience | None = None
    silence_s: _Patience | None = None

    def __post_init__(self) -> None:
        if not is_owner(self.owner):
            raise ValueError(RULE)


class Wish(Terms, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A key to be made, good for `expires_s` from now."""

    expires_s: Annotated[float, Meta(ge=1, le=LONGEST_S)] | None = None


class KeyRecord(Terms, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`id` is public and tells nothing of the key. Times are wall-clock seconds."""

    id: Annotated[str, Meta(pattern=r"^[0-9a-f]{8}\Z")]
    digest: Annotated[bytes, Meta(min_length=32, max_length=32)]
    made_at: _Time
    not_after: _Time | None = None
    revoked_at: _Time | None = None

    def __repr__(self) -> str:
        return f"KeyRecord({self.id}, {self.owner!r})"

    def state(self, now: float) -> str:
        """`good`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.not_after is not None and now >= self.not_after else "good"

    def caller(self) -> Caller:
        """Who comes with it."""
        return Caller(
            key=self.id,
            owner=self.owner,
            scopes=frozenset(self.scopes),
            models=self.models,
            label=self.label,
            priority=Priority[self.priority.upper()],
            timeout_s=self.timeout_s,
            first_token_s=self.first_token_s,
            silence_s=self.silence_s,
        )

    def told(self, now: float) -> dict[str, Any]:
        """For people: everything but the hash."""
        told: dict[str, Any] = msgspec.to_builtins(self, builtin_types=(bytes,))
        del told["digest"]
        return {**told, "state": self.state(now)}


def record_of(wish: Wish, key_id: str, digest: bytes, now: float) -> KeyRecord:
    """The record of a key that was made now."""
    terms = {name: getattr(wish, name) for name in Terms.__struct_fields__}
    not_after = int(now + wish.expires_s) if wish.expires_s is not None else None
    return KeyRecord(**terms, id=key_id, digest=digest, made_at=int(now), not_after=not_after)

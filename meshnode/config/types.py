"""The kinds of values that sections are made of: a bound belongs to the type, so that one check serves all."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Seconds = Annotated[float, Meta(ge=0, le=86_400 * 365)]
Bytes = Annotated[int, Meta(ge=0, le=2**50)]
Whole = Annotated[int, Meta(ge=0, le=2**31)]
Positive = Annotated[int, Meta(ge=1, le=2**31)]
Share = Annotated[float, Meta(ge=0, le=1)]
Factor = Annotated[float, Meta(ge=1, le=1000)]
Money = Annotated[float, Meta(ge=0, le=1_000_000)]
NodeIdText = Annotated[
    str,
    Meta(pattern="^[A-Za-z2-7]{52}$", description="a whole node id of 52 characters (`meshnode status --json` has it)"),
]

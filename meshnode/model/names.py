"""Model names: exact or not at all, with a hint for the near miss. Never fuzzy routing (complaint 15)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def split_pin(model: str) -> tuple[str, str | None]:
    """`name@node` pins a node; names keep their `/` and `:`. Returns the name and the pin."""
    name, at, node = model.rpartition("@")
    return (name, node) if at and name and node else (model, None)


def same_model(asked: str, offered: str) -> bool:
    """Whether the two spell one model: equal, or equal but for Ollama's implied `:latest`."""
    return asked == offered or f"{asked}:latest" == offered or asked == f"{offered}:latest"


def closest(asked: str, known: Iterable[str]) -> str | None:
    """The known name most like the one asked for, for a "did you mean"; None when nothing is near."""
    by_folded = {name.casefold(): name for name in sorted(known)}
    found = difflib.get_close_matches(asked.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None

"""What may be the name of a machine's owner: it stands in certificates, and travels in a header. Not for whose a
request is (slots.owners)."""

from __future__ import annotations

MAX_OWNER = 64
"""Characters, as certificates bound it."""

RULE = f"an owner is one line of {MAX_OWNER} characters at most, without space at its ends"


def is_owner(name: str) -> bool:
    """Whether it may be one; "" is nobody's name, which may stand in its place."""
    return len(name) <= MAX_OWNER and name.isprintable() and name == name.strip()

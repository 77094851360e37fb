"""Which node a person means: by its name, the short form of its id, or the whole id. Pure.

What is named may be shut out for ever by it, so a word must mean one node and nothing is guessed.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

from meshnode.errors import BadRequest, DecodeError
from meshnode.model.ids import NodeId

LISTED = 8
"""Candidates named in an error."""


def resolve(text: str, known: Iterable[tuple[NodeId, str]]) -> NodeId:
    """The node that `text` means among `known` nodes and their names. A whole id means itself, known or not.

    Raises BadRequest, which lists the candidates, when it means none or several.
    """
    text = text.strip()
    try:
        return NodeId.parse(text)
    except DecodeError:
        pass
    names = list(known)
    # Pinned names are kept folded.
    spellings = (text, unicodedata.normalize("NFKC", text).casefold())
    found = sorted({(node, name) for node, name in names if name in spellings or text.lower() == node.short})
    nodes = {node for node, _ in found}
    if len(nodes) == 1:
        return nodes.pop()
    if nodes:
        raise BadRequest(
            f"{text!r} means {len(nodes)} nodes: {_listed(found)}. Say which by its whole id", param="node"
        )
    if not names:
        raise BadRequest(f"no node is called {text!r}: this node knows no other", param="node")
    words = {word: (node, name) for node, name in names for word in (name, node.short)}
    close = {words[word] for word in difflib.get_close_matches(text, words, n=LISTED)}
    raise BadRequest(
        f"no node is called {text!r}; {'close to it' if close else 'known'}: {_listed(sorted(close or set(names)))}. "
        "A node that is not listed can be named by its whole id",
        param="node",
    )


def _listed(nodes: list[tuple[NodeId, str]]) -> str:
    more = f" and {len(nodes) - LISTED} more" if len(nodes) > LISTED else ""
    return ", ".join(f"{name} ({node.text})" for node, name in nodes[:LISTED]) + more

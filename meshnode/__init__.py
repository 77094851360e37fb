"""meshnode: a peer-to-peer mesh of LLM inference nodes with no hub.

`async with Node() as node:` runs a node in a trio program. Counterpart for the shell: the command `meshnode`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshnode import errors
from meshnode.version import __version__

if TYPE_CHECKING:
    from meshnode.chat import ChatStream, Reply
    from meshnode.config import Config, load
    from meshnode.node import Node

__all__ = ["ChatStream", "Config", "Node", "Reply", "__version__", "errors", "load"]

_HOMES = {
    "Node": "meshnode.node",
    "Config": "meshnode.config",
    "load": "meshnode.config",
    "Reply": "meshnode.chat",
    "ChatStream": "meshnode.chat",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: the command line starts without the whole stack."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'meshnode' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(home), name)

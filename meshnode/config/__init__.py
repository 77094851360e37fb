"""Configuration as frozen data: one section per room, each default with its reason; read once, checked whole.

A room gets its section, never the whole. Not for secrets (keep) and not for state.
"""

from meshnode.config.load import Config, load

__all__ = ["Config", "load"]

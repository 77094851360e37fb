"""Engines: what runs models on this machine or at configured URLs, found, spoken to, and where needed started.

Not for queueing (slots), choosing between nodes (routing), or the meaning of bytes (dialects).
"""

from meshnode.engine.adapter import Engine, State
from meshnode.engine.client import EngineAnswer, EngineClient
from meshnode.engine.engines import Engines
from meshnode.engine.memory import Memory, memory
from meshnode.engine.models import SMOLLM2, ModelSource, ModelStore
from meshnode.engine.probe import Place, detect

__all__ = [
    "SMOLLM2",
    "Engine",
    "EngineAnswer",
    "EngineClient",
    "Engines",
    "Memory",
    "ModelSource",
    "ModelStore",
    "Place",
    "State",
    "detect",
    "memory",
]

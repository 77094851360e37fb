"""One module per decoder: `one_input(data)` asserts its contract, `seeds()` gives inputs worth starting from."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def names() -> list[str]:
    """Every target."""
    return sorted(found.name for found in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """The module of one target."""
    return importlib.import_module(f"{__name__}.{name}")

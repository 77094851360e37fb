"""The rules that are broken. A module here for each room, each with its `MUTANTS`; a new one needs no other line.

Choose rules whose loss users would feel and reviewers would not see: what is promised in requests.md, protocol.md and
reliability.md of the design, not arithmetic that any test of a value holds.
"""

from __future__ import annotations

import importlib
import pkgutil

from tests.mutants.mutant import Mutant


def everything() -> list[Mutant]:
    """All mutants, room by room."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [mutant for name in names for mutant in importlib.import_module(f"{__name__}.{name}").MUTANTS]

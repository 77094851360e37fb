"""Slots are neither lost nor given twice."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

MUTANTS = (
    Mutant(
        rule="a slot is given back once",
        file="slots/admission.py",
        text="grant = self._grants.pop(ticket, None)",
        instead="grant = self._grants.pop(ticket, None) or self._grants.pop(next(iter(self._grants), ''), None)",
        tests=("tests/slots/test_admission.py",),
    ),
)

"""Slots are neither lost nor given twice."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

MUTANTS = (
    Mutant(
        rule="an engine that took a later request first is not mute",
        file="slots/mute.py",
        text="            self._due.pop(other, None)\n            if other == key:",
        instead="            if other == key:",
        tests=("tests/slots/test_mute.py",),
    ),
    Mutant(
        rule="behind a model that is loaded first nobody is overdue",
        file="slots/mute.py",
        text="work_s if work_s is not None else inf",
        instead="work_s if work_s is not None else 0.0",
        tests=("tests/slots/test_mute.py",),
    ),
    Mutant(
        rule="a slot is given back once",
        file="slots/admission.py",
        text="grant = self._grants.pop(ticket, None)",
        instead="grant = self._grants.pop(ticket, None) or self._grants.pop(next(iter(self._grants), ''), None)",
        tests=("tests/slots/test_admission.py",),
    ),
    Mutant(
        rule="a request whose model is not loaded is not passed for ever",
        file="slots/residency.py",
        text="elif now >= max(ticket.arrived + AGE_S, self._since + TENURE_S):",
        instead="elif now < 0:",
        tests=("tests/slots/test_residency.py",),
    ),
)

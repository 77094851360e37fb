"""Who is asked, who is left alone, and how far a job may go."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

MUTANTS = (
    Mutant(
        rule="a server that fails again and again is left alone for a while",
        file="routing/breaker.py",
        text="if breaker.failures >= self._section.breaker_failures:",
        instead="if False:",
        tests=("tests/routing/test_breaker.py", "tests/routing/test_router.py"),
    ),
    Mutant(
        rule="a breaker closes when its probes end well",
        file="routing/breaker.py",
        text="breaker.successes += 1",
        instead="breaker.successes = 0",
        tests=("tests/routing/test_breaker.py",),
    ),
    Mutant(
        rule="nobody is chosen who is farther away than the job may go",
        file="routing/tree.py",
        text="(label for label in self._labels[index] if label[1] <= hops_left)",
        instead="(label for label in self._labels[index])",
        tests=("tests/routing/test_path.py",),
    ),
    Mutant(
        rule="what is sensitive is served by nobody who is not vouched for",
        file="routing/eligible.py",
        text="if self._job.label is Label.SENSITIVE and not candidate.vouched:",
        instead="if False:",
        tests=("tests/routing/test_eligible.py",),
    ),
    Mutant(
        rule="own requests under way count, however old the load is that was told",
        file="routing/score.py",
        text="float(own)",
        instead="0.0",
        tests=("tests/routing/test_oscillation.py",),
    ),
    Mutant(
        rule="what a server says of itself does not vouch for it",
        file="routing/offers.py",
        text="vouched = seen.trusted or posture is Posture.ATTESTED",
        instead="vouched = seen.trusted or posture is not Posture.ATTESTED",
        tests=("tests/routing/test_eligible.py",),
    ),
    Mutant(
        rule="a decision among very many looks on where too few of those it looked at may serve",
        file="routing/plan.py",
        text="(broken or many(able) < FEW)",
        instead="False",
        tests=("tests/routing/test_aperture.py",),
    ),
    Mutant(
        rule="whoever was drawn to be looked at stands for those who were not",
        file="routing/aperture.py",
        text="stands_for=len(crowd.parts) / many",
        instead="stands_for=1.0",
        tests=("tests/routing/test_aperture.py",),
    ),
)

"""That no mutant rots unseen, and that what the runner says is what pytest said. `make mutants` does the rest."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutants import catalogue
from tests.mutants.__main__ import enough
from tests.mutants.mutant import PACKAGE, Mutant, Rotten
from tests.mutants.runner import ROOT, Outcome, Verdict, judge, read

MUTANTS = catalogue.everything()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_every_mutant_fits_the_source_and_breaks_it_into_code(mutant: Mutant) -> None:
    broken = ast.parse(mutant.broken(ROOT))
    assert ast.dump(broken) != ast.dump(ast.parse(mutant.source(ROOT).read_text())), "nothing is broken"
    assert mutant.tests
    for test in mutant.tests:
        assert (ROOT / test).is_file(), test


def test_there_are_twenty_rules_at_least_and_each_stands_once() -> None:
    assert len(MUTANTS) >= 20
    assert len({mutant.rule for mutant in MUTANTS}) == len({(m.file, m.text) for m in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("text", ["gone with the last change", "twice"])
def test_text_that_is_not_there_exactly_once_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / PACKAGE).mkdir()
    (tmp_path / PACKAGE / "rules.py").write_text("twice = 'twice'\n")
    with pytest.raises(Rotten, match=r"rules\.py"):
        Mutant("a rule", "rules.py", text, "", ()).apply(tmp_path)
    assert (tmp_path / PACKAGE / "rules.py").read_text() == "twice = 'twice'\n"


@pytest.mark.parametrize(
    ("status", "said", "outcome", "by"),
    [
        (0, "12 passed", Outcome.SURVIVED, ""),
        (1, "...F\nFAILED tests/x/test_y.py::test_z[1 2] - assert\n", Outcome.CAUGHT, "tests/x/test_y.py::test_z[1 2]"),
        (1, "ERROR tests/x/test_y.py::test_z\n", Outcome.CAUGHT, "tests/x/test_y.py::test_z"),
        (1, "killed", Outcome.BROKEN, "killed"),
        (2, "ERROR tests/x/test_y.py - SyntaxError", Outcome.BROKEN, "ERROR tests/x/test_y.py - SyntaxError"),
        (4, "file or directory not found", Outcome.BROKEN, "file or directory not found"),
        (5, "no tests ran", Outcome.BROKEN, "no tests ran"),
    ],
)
def test_only_a_test_that_failed_has_caught_anything(status: int, said: str, outcome: Outcome, by: str) -> None:
    assert read(status, said) == (outcome, by)


def test_one_in_twenty_may_survive_and_none_may_go_unjudged() -> None:
    caught, survived, broken = (
        Verdict(outcome, "", 0.0) for outcome in (Outcome.CAUGHT, Outcome.SURVIVED, Outcome.BROKEN)
    )
    assert enough([caught] * 19 + [survived])
    assert not enough([caught] * 18 + [survived] * 2)
    assert not enough([caught] * 39 + [broken])


def test_a_mutant_is_judged_in_a_copy_and_the_tree_stays_as_it_is() -> None:
    mutant = Mutant(
        rule="a job that was seen is not new",
        file="routing/seen.py",
        text="if key in self._at:",
        instead="if False:",
        tests=("tests/routing/test_seen.py",),
    )
    before = mutant.source(ROOT).read_text()
    verdict = judge(mutant)
    assert (verdict.outcome, verdict.by.partition("::")[0]) == (Outcome.CAUGHT, "tests/routing/test_seen.py")
    assert mutant.source(ROOT).read_text() == before

"""`python -m tests.mutants [WORD…]`: breaks each rule, two at a time, and says which test noticed.

Words choose mutants by their rule or file. Exits with 1 when fewer than 19 in 20 are caught, when a mutant no longer
fits the source, or when the tests fail with every rule in force.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor, as_completed

from tests.mutants import catalogue
from tests.mutants.mutant import PACKAGE, Mutant, Rotten
from tests.mutants.runner import ROOT, Outcome, Verdict, judge, judge_none

IN_TWENTY = 19
"""So many of twenty must be caught (reliability.md)."""

AT_ONCE = 2


def main() -> int:
    """Read the command line and do what it says."""
    asked = _arguments().parse_args()
    chosen = [mutant for mutant in catalogue.everything() if _meant(mutant, asked.words)]
    if not chosen:
        print("no rule is called that")
        return 1
    try:
        for mutant in chosen:
            mutant.broken(ROOT)
    except Rotten as error:
        print(error)
        return 1
    began = time.monotonic()
    with ThreadPoolExecutor(asked.at_once) as pool:
        whole = pool.submit(judge_none, [test for mutant in chosen for test in mutant.tests])
        judged = {pool.submit(judge, mutant): mutant for mutant in chosen}
        verdicts = [_told(future, judged) for future in as_completed(judged)]
    return _summed_up(whole.result(), verdicts, time.monotonic() - began)


def enough(verdicts: list[Verdict]) -> bool:
    """Whether so many were caught as must be, and every one was judged at all."""
    caught = sum(verdict.outcome is Outcome.CAUGHT for verdict in verdicts)
    return caught * 20 >= IN_TWENTY * len(verdicts) and all(v.outcome is not Outcome.BROKEN for v in verdicts)


def _told(future: Future[Verdict], judged: dict[Future[Verdict], Mutant]) -> Verdict:
    mutant, verdict = judged[future], future.result()
    print(f"{verdict.outcome.value:8}  {PACKAGE}/{mutant.file}: {mutant.rule}", flush=True)
    print(f"          {verdict.wall_s:5.1f} s  {verdict.by or 'by none of ' + ', '.join(mutant.tests)}", flush=True)
    return verdict


def _summed_up(whole: Verdict, verdicts: list[Verdict], wall_s: float) -> int:
    caught = sum(verdict.outcome is Outcome.CAUGHT for verdict in verdicts)
    print(f"\n{caught} of {len(verdicts)} caught in {wall_s:.0f} s")
    if whole.outcome is not Outcome.SURVIVED:
        print(f"nothing is shown: with every rule in force the tests fail too: {whole.by}")
        return 1
    return 0 if enough(verdicts) else 1


def _meant(mutant: Mutant, words: list[str]) -> bool:
    return not words or any(word in f"{PACKAGE}/{mutant.file} {mutant.rule}" for word in words)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.mutants", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD", help="part of a rule or a file")
    parser.add_argument("--at-once", type=int, default=AT_ONCE)
    return parser


if __name__ == "__main__":
    sys.exit(main())

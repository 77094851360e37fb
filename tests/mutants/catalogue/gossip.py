"""What is believed of others, and for how long."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

MUTANTS = (
    Mutant(
        rule="an advert ends with its lifetime",
        file="gossip/table.py",
        text="for node in self._wheel.due(now):",
        instead="for node in self._wheel.due(now)[:0]:",
        tests=("tests/gossip/test_table.py", "tests/gossip/test_machine.py"),
    ),
    Mutant(
        rule="an older sequence never takes the place of a newer one",
        file="gossip/table.py",
        text="if advert.order < entry.order:",
        instead="if advert.order[0] < entry.order[0]:",
        tests=("tests/gossip/test_table.py", "tests/gossip/test_machine.py"),
    ),
    Mutant(
        rule="who is over is remembered for longer than its adverts travel",
        file="gossip/table.py",
        text="entry.until = now + self.section.tombstone_s",
        instead="entry.until = now + 1.0",
        tests=("tests/gossip/test_table.py", "tests/gossip/test_machine.py"),
    ),
    Mutant(
        rule="an advert that ended here is not brought back by a copy",
        file="gossip/table.py",
        text="            entry.latest = now\n",
        instead="",
        tests=("tests/gossip/test_table.py", "tests/gossip/test_machine.py"),
    ),
    Mutant(
        rule="an advert counts only with its node's signature",
        file="mesh/papers.py",
        text="if not verify(advert.node, ADVERT_CONTEXT, body, signature):",
        instead="if False:",
        tests=("tests/mesh/test_papers.py",),
    ),
    Mutant(
        rule="who says two things under one number is put aside",
        file="gossip/intake.py",
        text="if standing not in (Standing.NEWER, Standing.CONFLICT):",
        instead="if standing is not Standing.NEWER:",
        tests=("tests/gossip/test_proofs.py",),
    ),
    Mutant(
        rule="who lost count of its starts contradicts nothing that it said before",
        file="gossip/own.py",
        text="self.sequence = self._first = self.rng.randrange(_FIRST_SEQUENCES)",
        instead="self.sequence = self._first = 0",
        tests=("tests/gossip/test_own.py", "tests/simulation/test_simulator.py"),
    ),
    Mutant(
        rule="what an advert says of anything but links is never held back",
        file="gossip/own.py",
        text="elif replace(said, neighbours=told.neighbours) == told:",
        instead="elif True:",
        tests=("tests/gossip/test_own.py",),
    ),
    Mutant(
        rule="a key that is used twice is found out, whatever the two have counted",
        file="gossip/own.py",
        text="if not self._overtakes.take(now):",
        instead="if False:",
        tests=("tests/gossip/test_own.py", "tests/gossip/test_proofs.py"),
    ),
)

"""What happens to a request between its client and its engine."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

MUTANTS = (
    Mutant(
        rule="a place in another node's queue is told on by relays",
        file="dispatch/leases.py",
        text="onward.place = lambda: stream.place",
        instead="pass",
        tests=("tests/dispatch/test_places.py",),
    ),
    Mutant(
        rule="an engine's word on credentials is never the client's 401",
        file="dialects/blame.py",
        text="CREDENTIALS: Final = frozenset({401, 403, 407})",
        instead="CREDENTIALS: Final = frozenset({999})",
        tests=("tests/dialects/test_blame.py",),
    ),
    Mutant(
        rule="what was set aside for a retry is given back by requests that are left",
        file="dispatch/pursuit.py",
        text="        for lent in self._lent.values():\n            self._retries.give_back(lent)\n",
        instead="",
        tests=("tests/dispatch/test_pursuit.py",),
    ),
    Mutant(
        rule="where nobody has a slot to spare a doubt is a retry like any other",
        file="dispatch/pursuit.py",
        text="(self._doubts if self._spare() else self._retries).spend(now)",
        instead="self._doubts.spend(now)",
        tests=("tests/dispatch/test_pursuit.py",),
    ),
    Mutant(
        rule="who would not wait is sent away from an engine that fails or says nothing",
        file="dispatch/gate.py",
        text="if job.at_once and (ails_s",
        instead="if False and (ails_s",
        tests=("tests/dispatch/test_ears.py",),
    ),
    Mutant(
        rule="who waits for an engine that says nothing is told",
        file="dispatch/ears.py",
        text="            tell()",
        instead="            pass",
        tests=("tests/dispatch/test_ears.py",),
    ),
    Mutant(
        rule="the second server that hangs is not waited for as long as the first",
        file="dispatch/pursuit.py",
        text=" * (AGAIN if self._doubted else 1.0)",
        instead="",
        tests=("tests/dispatch/test_pursuit.py",),
    ),
    Mutant(
        rule="what a server says of its speed makes nobody wait longer for it than who says nothing",
        file="dispatch/doubt.py",
        text="min(busy_s, max(",
        instead="max(busy_s, max(",
        tests=("tests/dispatch/test_doubt.py",),
    ),
    Mutant(
        rule="answers in one piece say nothing of a stream's first token",
        file="routing/measure.py",
        text="        if flight.whole:",
        instead="        if False:",
        tests=("tests/routing/test_measure.py",),
    ),
    Mutant(
        rule="one attempt of a job passes a relay once, whatever its headers say",
        file="dispatch/inbound.py",
        text='if kind == "relay" and not self._seen.first(',
        instead='if False and kind == "relay" and not self._seen.first(',
        tests=("tests/dispatch/test_inbound.py",),
    ),
    Mutant(
        rule="a job that has been here before is a loop",
        file="dispatch/inbound.py",
        text="if me in envelope.path:",
        instead="if False:",
        tests=("tests/dispatch/test_inbound.py",),
    ),
    Mutant(
        rule="a full server is not a broken one",
        file="dispatch/chase.py",
        text="if isinstance(error, Overloaded):\n            self._around",
        instead="if False:\n            self._around",
        tests=("tests/dispatch/test_blame.py",),
    ),
    Mutant(
        rule="what is sensitive passes no relay in the open, whoever says so",
        file="dispatch/ways.py",
        text="return job.label is Label.SENSITIVE or (job.privacy or Privacy(usual)) is Privacy.SEALED",
        instead="return (job.privacy or Privacy(usual)) is Privacy.SEALED",
        tests=("tests/dispatch/test_ways.py",),
    ),
    Mutant(
        rule="a stream that its engine ended before its last word was cut",
        file="dispatch/begun.py",
        text="if not self.judge.finished:",
        instead="if False:",
        tests=("tests/dispatch/test_dispatcher.py",),
    ),
    Mutant(
        rule="what no client can read is passed on by nobody, and asked for elsewhere",
        file="dispatch/begun.py",
        text="data = self.judge.feed(await self.answer.__anext__())",
        instead="data = await self.answer.__anext__()",
        tests=("tests/dispatch/test_spoilt.py",),
    ),
    Mutant(
        rule="nothing is asked again once its answer has begun",
        file="engine/connection.py",
        text="elif not first or self._received:",
        instead="elif not first:",
        tests=("tests/engine/test_client.py",),
    ),
    Mutant(
        rule="a slot is given back when its client leaves before the first byte",
        file="dispatch/local.py",
        text="        except BaseException:\n            release()\n            raise",
        instead="        except EngineFailed:\n            release()\n            raise",
        tests=("tests/dispatch/test_leaving.py",),
    ),
)

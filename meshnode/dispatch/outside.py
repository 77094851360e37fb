"""The last door: a commercial API, once the mesh has said that it cannot answer. What it costs is set aside before.

Not for whether, whom and how much (routing.fallback) nor for the provider's dialect (engine.cloud). Counterpart:
dispatcher.py, which comes here with the error that the mesh ended with. requests.md §1.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from meshnode.config.dispatch import DispatchSection
from meshnode.dispatch.asking import first_of
from meshnode.dispatch.delivered import Delivered, Patience
from meshnode.dispatch.journal import ANSWERED_OUTSIDE, OUTSIDE
from meshnode.errors import DeadlineExceeded, ModelNotFound, NoEligibleNode, RequestError
from meshnode.observe import log
from meshnode.routing.fallback import CloudChoice, Fallback, Spent, worth_asking

if TYPE_CHECKING:
    from meshnode.dispatch.delivered import Ended
    from meshnode.dispatch.journal import Entry
    from meshnode.dispatch.watch import Watch
    from meshnode.engine.cloud import Provider
    from meshnode.engine.priced import PricedAnswer
    from meshnode.model.job import Job

logger = log.get("dispatch")

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class _Begun:
    answer: PricedAnswer
    first: bytes


class Outside:
    """`run` keeps what was spent; `dispatch` asks. `save` is called in a thread, with the newest sum."""

    def __init__(
        self,
        fallback: Fallback,
        providers: Mapping[str, Provider],
        save: Callable[[Spent], None],
        watch: Watch,
        section: DispatchSection,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._fallback = fallback
        self._providers = providers
        self._save = save
        self._watch = watch
        self._section = section
        self._wall_clock = wall_clock
        self._spent = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep each new sum until cancelled, the last one too."""
        task_status.started()
        kept = self._fallback.spent
        try:
            while True:
                await self._spent.wait()
                self._spent = trio.Event()
                spent = self._fallback.spent
                await trio.to_thread.run_sync(self._save, spent)
                kept = spent
        finally:
            if self._fallback.spent != kept:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self._save, self._fallback.spent)
            for provider in self._providers.values():
                provider.close()

    async def dispatch(
        self, job: Job, refused: RequestError, entry: Entry, settled: Callable[[str, str, str], None]
    ) -> Delivered:
        """Ask whoever may be asked. `settled(model, provider, outcome)` is told at the end. Raises `refused` where
        nobody may, with why not; the last provider's error where all failed."""
        if not worth_asking(refused):
            raise refused
        chosen, excluded = self._fallback.choose(job, self._day())
        last = refused
        for choice in chosen:
            if not self._fallback.reserve(choice, self._day()):
                continue
            number = entry.asked + 1
            entry.note(trio.current_time(), OUTSIDE, number, detail=choice.provider)
            try:
                begun = await self._ask(job, choice)
            except RequestError as error:
                entry.note(trio.current_time(), "failed outside the mesh", number, detail=error.code)
                logger.info("a provider did not answer", job=job.id, provider=choice.provider, code=error.code)
                last = error
                if not error.elsewhere:
                    raise
                continue
            entry.note(trio.current_time(), ANSWERED_OUTSIDE, number, detail=choice.provider)
            entry.note(trio.current_time(), "first token")
            headers = self._headers(begun, choice, refused, number)
            patience = Patience(job.wishes.silence_s or self._section.silence_s, job.deadline)
            return Delivered(begun, headers, patience, self._watch, self._at_end(begun, choice, entry, settled))
        raise _with(job, refused, excluded) if excluded and last is refused else last

    def explain(self, job: Job, refused: RequestError) -> dict[str, list[str]] | None:
        """Who would be asked once the mesh has refused like this, in order, and why not each of the others; None where
        nobody would."""
        if not worth_asking(refused):
            return None
        chosen, excluded = self._fallback.choose(job, self._day())
        return {"asked": [choice.provider for choice in chosen], "excluded": excluded} if chosen or excluded else None

    def state(self) -> Mapping[str, object]:
        """For status pages."""
        return {"providers": list(self._providers), **self._fallback.state(self._day())}

    async def _ask(self, job: Job, choice: CloudChoice) -> _Begun:
        first_token_s = job.wishes.first_token_s or self._section.first_token_s
        phase_s = first_token_s if job.facts.stream else self._section.whole_s
        until = min(job.deadline, trio.current_time() + phase_s)
        try:
            with trio.CancelScope(deadline=until):
                answer = await self._providers[choice.provider].serve(job, choice.model)
                return _Begun(answer, await first_of(answer))
        except RequestError:
            # An error instead of an answer costs nothing, with every provider there is.
            self._fallback.settle(choice, 0, 0, self._day())
            raise
        except trio.Cancelled:
            # It may be at work by now, and nobody will say for how much.
            self._settle(choice, None, None)
            raise
        self._settle(choice, None, None)
        raise DeadlineExceeded(f"{choice.provider} did not answer in time", phase="first_token")

    def _settle(self, choice: CloudChoice, prompt_tokens: int | None, answer_tokens: int | None) -> None:
        self._fallback.settle(choice, prompt_tokens, answer_tokens, self._day())
        self._spent.set()

    def _at_end(
        self, begun: _Begun, choice: CloudChoice, entry: Entry, settled: Callable[[str, str, str], None]
    ) -> Ended:
        def ended(answer: Delivered, error: RequestError | None, whole: bool) -> None:
            usage = begun.answer.usage if whole else None
            if usage is None:
                self._settle(choice, None, None)
            else:
                self._settle(choice, usage.prompt_tokens, usage.completion_tokens)
            outcome = error.code if error is not None else "ok" if whole or answer.said_all else "cancelled"
            entry.ended(trio.current_time(), outcome, answer.chunks)
            settled(choice.model, choice.provider, outcome)

        return ended

    def _headers(self, begun: _Begun, choice: CloudChoice, refused: RequestError, number: int) -> dict[str, str]:
        kind = begun.answer.headers.get("content-type", "application/json")
        return {
            "content-type": kind,
            "x-meshnode-node": choice.provider,
            "x-meshnode-model": choice.model,
            "x-meshnode-path": f"{choice.provider} (outside the mesh)",
            "x-meshnode-privacy": "outside",
            "x-meshnode-reason": f"nobody in the mesh could answer: {refused.code}",
            "x-meshnode-attempts": str(number),
        }

    def _day(self) -> int:
        return int(self._wall_clock() // DAY_S)


def _with(job: Job, refused: RequestError, excluded: list[str]) -> RequestError:
    """The same error, which also says why nobody outside was asked. A model that is only had there is known: what
    leaves nobody are the request's rules, or the purse."""
    why = f"outside the mesh: {'; '.join(excluded)}"
    if isinstance(refused, ModelNotFound):
        return NoEligibleNode(f"Nobody may serve {job.facts.model!r} as this was asked: no node offers it, and {why}.")
    message = f"{refused.message} O{why[1:]}."
    return type(refused)(message, param=refused.param, retry_after_s=refused.retry_after_s)

"""Signs for what this node serves, and keeps the receipts of those who answer it: hashes as bytes pass, no more.

What costs more than a hash is done where nobody waits: the server signs at the end of an answer, everything else is
the book's (keep.receipts, in its thread). Not for what a receipt means (trust.receipt).
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import trio

from meshnode.errors import DecodeError
from meshnode.model.ids import NodeId
from meshnode.observe import log
from meshnode.trust.receipt import TRAILER, Expected, Receipt, SignedReceipt

if TYPE_CHECKING:
    from meshnode.dispatch.local import LocalAnswer
    from meshnode.model.advert import ModelOffer
    from meshnode.model.answer import Answer
    from meshnode.model.job import Job
    from meshnode.trust.keys import Sign

logger = log.get("dispatch")

LARGE_BYTES = 1 << 20
"""A request of more is hashed in a thread: a millisecond is what other streams may wait."""

_TAIL_BYTES = 1024
_NAMES = (b"completion_tokens", b"output_tokens", b"eval_count", b"predicted_n")
_QUOTED = b"|".join(rb'(?<="%b")(?<!\\"%b")' % (name, name) for name in _NAMES)
_TOKENS = re.compile(rb'_(?:tokens|count|n)"(?:%b)\s*:\s*(\d{1,9})' % _QUOTED)
"""How engines' last words tell what they counted (`predicted_n` is llama-server's, in each stream's last event); within
a text the quotes would be escaped. Found by its middle, which hardly any other word has: a search for quotes would take
60 µs of a thread that others wait for."""


class Book(Protocol):
    """Where receipts are kept (keep.receipts)."""

    def own(self, receipt: Receipt, key: str = "") -> None: ...

    def came(self, trailer: str, expected: Expected, key: str = "") -> None: ...


class Clerk:
    """One node's receipts. `offered` gives the offer of a model as the advert has it, with its digest."""

    def __init__(self, me: NodeId, sign: Sign, offered: Callable[[str], ModelOffer | None], book: Book) -> None:
        self._me = me
        self._sign = sign
        self._offered = offered
        self._book = book

    async def served(self, answer: LocalAnswer, job: Job) -> Answer:
        """The answer to another node's job, with a receipt in its trailers."""
        request = await _hash(job.body, answer)

        def ended(digest: bytes, last: bytes) -> Mapping[str, str]:
            said = self._receipt(job, request, digest, _tokens(last, answer.events))
            try:
                return {TRAILER: SignedReceipt.sign(said, self._sign).trailer}
            except DecodeError as error:
                # Names that no codec takes, such as lone surrogates: the answer is whole all the same.
                logger.debug("an answer goes without its receipt", job=job.id, reason=str(error))
                return {}

        return Hashed(answer, ended)

    async def own(self, answer: LocalAnswer, job: Job) -> Answer:
        """The answer of this node to itself: signed later, by the book."""
        request = await _hash(job.body, answer)

        def ended(digest: bytes, last: bytes) -> Mapping[str, str]:
            self._book.own(self._receipt(job, request, digest, _tokens(last, answer.events)), job.wishes.key)
            return {}

        return Hashed(answer, ended)

    async def expected(self, answer: Answer, sent: Job, server: NodeId) -> Answer:
        """The answer of another node to `sent`; what its receipt should say is put beside it."""
        request = await _hash(sent.body, answer)

        def ended(digest: bytes, last: bytes) -> Mapping[str, str]:
            said = answer.trailers.get(TRAILER, "")
            self._book.came(said, Expected(sent.id, self._me, server, request, digest), sent.wishes.key)
            return {}

        return Hashed(answer, ended)

    def _receipt(self, job: Job, request: bytes, answer: bytes, tokens: int) -> Receipt:
        offer = self._offered(job.facts.model)
        return Receipt(
            job=job.id[:128],
            origin=bytes(job.origin),
            server=bytes(self._me),
            request=request,
            answer=answer,
            model=job.facts.model[:128],
            at=int(time.time()),
            digest=offer.digest if offer is not None else b"",
            quant=offer.quant if offer is not None else "",
            tokens=tokens,
        )


class Hashed:
    """An answer whose bytes are hashed as they pass. `ended(sha256, last bytes)` is called once, at its true end, and
    says what is added to the trailers; an answer that was cut or left has none."""

    def __init__(self, inner: Answer, ended: Callable[[bytes, bytes], Mapping[str, str]]) -> None:
        self.status = inner.status
        self.headers = inner.headers
        self._inner = inner
        self._added: Mapping[str, str] = {}
        self._ended: Callable[[bytes, bytes], Mapping[str, str]] | None = ended
        self._hash = hashlib.sha256()
        self._last = b""

    @property
    def trailers(self) -> Mapping[str, str]:
        return {**self._inner.trailers, **self._added}

    def __aiter__(self) -> Hashed:
        return self

    async def __anext__(self) -> bytes:
        try:
            data = await self._inner.__anext__()
        except StopAsyncIteration:
            if self._ended is not None:
                ended, self._ended = self._ended, None
                self._added = ended(self._hash.digest(), self._last)
            raise
        self._hash.update(data)
        # The last two pieces: the very last may be no more than a line's end.
        self._last = (self._last[-_TAIL_BYTES:] if len(data) < _TAIL_BYTES else b"") + data
        return data

    async def aclose(self) -> None:
        # Left before its end, it has none; what its reader has not taken cannot be signed for.
        self._ended = None
        await self._inner.aclose()


async def _hash(body: bytes, answer: Answer) -> bytes:
    """The hash of a request whose answer has begun: whoever is cancelled meanwhile lets that go, and its slot."""
    if len(body) <= LARGE_BYTES:
        return hashlib.sha256(body).digest()
    try:
        return await trio.to_thread.run_sync(lambda: hashlib.sha256(body).digest())
    except BaseException:
        with trio.CancelScope(shield=True):
            await answer.aclose()
        raise


def _tokens(last: bytes, events: int) -> int:
    """What the engine counted, as far as its last words say; else one for each event but the closing two."""
    found = _TOKENS.findall(last[-2 * _TAIL_BYTES :])
    return int(found[-1]) if found else max(0, events - 2)

"""What comes back for a job: a head, bytes, and trailers, from an engine, a link or this node itself.

Answers are objects with `__anext__` and `aclose`, never bare generators, so that leaving one is always possible and
never surprising. Not for what the bytes mean (dialects).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Answer(Protocol):
    """A head that is known, and a body that arrives.

    `__anext__` returns what has arrived, at least one byte, and raises StopAsyncIteration at the true end; an answer
    cut short raises a RequestError instead. `trailers` are complete after the end. `aclose` may be called at any time
    and any number of times; it cancels what still runs behind the answer.
    """

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def trailers(self) -> Mapping[str, str]: ...

    def __aiter__(self) -> Answer: ...

    async def __anext__(self) -> bytes: ...

    async def aclose(self) -> None: ...


class WholeAnswer:
    """An answer that is all there: errors, and bodies made by this node."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.trailers: Mapping[str, str] = {}
        self._body = body

    def __aiter__(self) -> WholeAnswer:
        return self

    async def __anext__(self) -> bytes:
        body, self._body = self._body, b""
        if not body:
            raise StopAsyncIteration
        return body

    async def aclose(self) -> None:
        self._body = b""

"""Header blocks as links carry them: checked once on the way out and once on the way in, faster than h2 does.

h2 looks at every character in a Python loop (10 µs a request and more), so its validation is off and this is in its
place. Not for what headers mean (dispatch). Source of the rules: RFC 9113 §8.2 and §8.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from meshnode.errors import BadRequest, ProtocolViolation
from meshnode.mux.events import Headers

MAX_LIST_BYTES = 16_384
"""Of names and values, 32 for each pair (RFC 9113 §6.5.2). A job's headers with a path of 8 hops have 2 KiB; with HPACK
a peer can send a list of any size in a few bytes, on a thousand streams."""

MAX_HEADERS = 64
"""Pairs in one block. In Python an empty pair costs as much as 200 bytes do; a job has about 15."""

MAX_NAMES_BYTES = 4096
MAX_VALUES_BYTES = 10_240
"""Together with 32 for each of 64 pairs that makes MAX_LIST_BYTES, so what leaves here passes there."""

_NAMES = re.compile(r"(?::[a-z]+\n)*(?:[a-z0-9!#$%&'*+.^_`|~-]+\n)*")
"""Names in order, a line each: pseudo-headers first, then tokens without capitals."""

_BAD_VALUE = re.compile(r"[\x00\r]|^[ \t]|[ \t]$", re.MULTILINE)

_CONNECTION_ONLY = frozenset(
    {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te", "host", "content-length"}
)
"""Never sent. The first six are HTTP/1.1's own business (§8.2.2), `host` is `:authority`, and a `content-length` that
turns out wrong makes h2 end the whole connection; the end of a stream says as much."""

PLACE = "meshnode-place"
"""Of a 102: where the request waits in a queue."""

MUTE = "meshnode-mute"
"""Of a 102: the engine that is to answer says nothing for longer than that can take."""

PLACE_DIGITS = 6
"""Of a place; queues are shorter by far."""

REQUEST = frozenset({":method", ":path", ":scheme", ":authority"})
RESPONSE = frozenset({":status"})
TRAILERS: frozenset[str] = frozenset()

_REQUIRED = {REQUEST: (":method", ":path"), RESPONSE: (":status",), TRAILERS: ()}


def outgoing(headers: Headers, pseudo: frozenset[str]) -> list[tuple[bytes, bytes]]:
    """What h2 gets to send; headers of one connection are left out.

    `pseudo` is one of REQUEST, RESPONSE, TRAILERS. Raises BadRequest: a peer would end the whole link over such a
    block, and its words may be a client's.
    """
    kept = [(name, value) for name, value in headers if name not in _CONNECTION_ONLY]
    fault = _fault(kept, pseudo)
    if fault is not None:
        raise BadRequest(f"these headers cannot travel: {fault}")
    return [(name.encode(), value.encode()) for name, value in kept]


def incoming(headers: Iterable[tuple[bytes, bytes]], pseudo: frozenset[str]) -> Headers:
    """What h2 received, as text. Raises ProtocolViolation."""
    try:
        found = tuple([(str(name, "utf-8"), str(value, "utf-8")) for name, value in headers])
    except UnicodeDecodeError as error:
        raise ProtocolViolation("a header is not UTF-8") from error
    fault = _fault(found, pseudo)
    if fault is not None:
        raise ProtocolViolation(f"a bad header block: {fault}")
    return found


def place(number: int) -> list[tuple[bytes, bytes]]:
    """What a 102 says of a place in a queue; nothing for 0."""
    return [(PLACE.encode(), b"%d" % number)] if 0 < number < 10**PLACE_DIGITS else []


def read_mute(headers: Headers) -> bool:
    """Whether a 102 tells that the engine says nothing: a peer's word, which costs it a request at most."""
    return any(name == MUTE for name, _ in headers)


def read_place(headers: Headers) -> int:
    """The place that a 102 tells, 0 where it tells none, or nonsense: it is shown, and nothing is decided by it."""
    said = next((value for name, value in headers if name == PLACE), "")
    return int(said) if len(said) <= PLACE_DIGITS and said.isascii() and said.isdigit() else 0


def _fault(headers: Sequence[tuple[str, str]], pseudo: frozenset[str]) -> str | None:
    if len(headers) > MAX_HEADERS:
        return f"{len(headers)} of them"
    values = "\n".join([value for _, value in headers])
    if len(values) > MAX_VALUES_BYTES // 4 and len(values.encode(errors="replace")) > MAX_VALUES_BYTES:
        return f"values of more than {MAX_VALUES_BYTES} bytes"
    if values.count("\n") >= max(1, len(headers)) or _BAD_VALUE.search(values) is not None:
        return "a value with a control character or with blanks around it"
    return _fault_of_names(tuple([name for name, _ in headers]), pseudo)


@lru_cache(maxsize=64)
def _fault_of_names(names: tuple[str, ...], pseudo: frozenset[str]) -> str | None:
    """Cached: nearly every block of a link has one of a few shapes."""
    lines = "".join([name + "\n" for name in names])
    if len(lines) > MAX_NAMES_BYTES:
        return f"names of more than {MAX_NAMES_BYTES} bytes"
    if _NAMES.fullmatch(lines) is None or lines.count("\n") != len(names):
        return "a name that HTTP/2 does not allow, or a pseudo-header out of place"
    special = [name for name in names if name[0] == ":"]
    if len(set(special)) != len(special) or not pseudo.issuperset(special):
        return "a pseudo-header twice or of another kind of block"
    missing = [name for name in _REQUIRED[pseudo] if name not in special]
    return f"{missing[0]} is missing" if missing else None

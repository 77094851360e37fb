"""`POST /mesh/explain`: where a request would go and why, without asking anybody.

The body is the request's own, for a chat; or `{"route", "headers", "body"}` for any request as it would be sent. Not
for deciding (routing). Counterpart: handlers, which make the same job of the same request and run it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

import msgspec
from msgspec import Meta

from meshnode.access import Caller, Scope, credentials
from meshnode.config.front import FrontSection
from meshnode.dialects import CHAT
from meshnode.errors import BadRequest
from meshnode.front.doors import Doors
from meshnode.front.handlers import Incoming, make_job, request_id_of

_Header = Annotated[str, Meta(max_length=8192)]


class _Wrapped(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request in full."""

    route: str
    body: msgspec.Raw
    headers: Annotated[dict[_Header, _Header], Meta(max_length=64)] = {}


class _Either(msgspec.Struct, frozen=True):
    """Enough to tell the two forms apart."""

    route: msgspec.Raw = msgspec.Raw(b"")
    model: msgspec.Raw = msgspec.Raw(b"")


def explained(headers: Mapping[str, str], caller: Caller, body: bytes, doors: Doors, section: FrontSection) -> bytes:
    """The plan as JSON, for a request of `caller`, or of whose key is among the request's own headers. Raises
    BadRequest, Unauthorized; a request that nobody may serve is an explanation too."""
    request = _request(headers, caller, body)
    if credentials(request.headers) != credentials(headers):
        request = replace(request, caller=doors.keys.admit(request.headers, Scope.INFER))
    return msgspec.json.encode(doors.explain(make_job(request, request_id_of(request.headers), doors, section)))


def _request(headers: Mapping[str, str], caller: Caller, body: bytes) -> Incoming:
    try:
        form = msgspec.json.decode(body, type=_Either)
        if not bytes(form.route) or bytes(form.model):
            return Incoming("POST", CHAT, headers, body, caller)
        asked = msgspec.json.decode(body, type=_Wrapped)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadRequest(f"The request body has the wrong form: {error}") from error
    given = {name.lower(): value for name, value in asked.headers.items()}
    return Incoming("POST", asked.route, {**headers, **given}, bytes(asked.body), caller)

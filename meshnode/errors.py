"""The one exception tree. Every error meshnode raises on purpose is a node of it.

    MeshnodeError
    ├── ConfigError            the configuration is wrong; says every fault at once
    ├── StartError             the node cannot start: an address or a home is in use; says by whom and what to do
    ├── DecodeError            bytes from outside are malformed, oversized or not canonical
    ├── IdentityError          a key, certificate or secret file cannot be used
    │   ├── CertificateRefused     signature, time, mesh or key does not fit (identity.Barred: revoked, not pinned)
    │   ├── InviteRefused          unknown, used, expired or for another mesh
    │   ├── EvidenceRefused        a manifest, an attestation or a receipt does not hold
    │   └── SecretFileError        unreadable, wrong mode, truncated
    ├── EngineUnavailable      a local engine cannot be had: not installed, no model, or it will not start
    ├── LinkError              something between two nodes; the request may go elsewhere
    │   ├── HandshakeFailed        before a link existed
    │   │   ├── LinkRefused            the other end knows the secret and refused this node in words
    │   │   └── AlreadyLinked          this node has a link to whoever answered
    │   ├── ProtocolViolation      the peer broke a rule: the link dies
    │   │   └── Tampered               or somebody on the way: nobody is blamed
    │   ├── LinkClosed             the link ended under a stream
    │   └── StreamReset            the peer cancelled one stream
    └── RequestError           a request ends with this status; `dialects.status` gives it the client's shape
        ├── BadRequest             400  theirs: malformed, missing or impossible
        │   └── ContextExceeded        400  the prompt is longer than any reachable context
        ├── Unauthorized           401
        ├── Forbidden              403
        ├── NotShared              403  theirs: the machine works for its owner only, now or always
        ├── ModelNotFound          404  theirs: no node offers this name
        ├── NotFound               404  theirs: this node has nothing of that name
        ├── Conflict               409  theirs: the idempotency key belongs to another request or a past answer
        ├── BodyTooLarge           413
        ├── Overloaded             429  every slot and queue is full; Retry-After says when
        ├── EngineFailed           502  ours: the engine refused, died or spoke nonsense
        │   ├── EngineDown             503  ours: the model is known, and its engine is not there now
        │   └── EngineUnauthorized     502  ours: the engine wants credentials that its node has not
        ├── PeerFailed             502  ours: the peer or the path to it broke
        │   └── LeaseExpired           502  ours: nothing was heard of the job, though the link lives
        ├── NoPeerReachable        503  ours: the model is known, nobody who has it can be reached
        ├── NoEligibleNode         503  theirs: nodes that could serve may not; says what each lacks
        ├── Draining               503  ours: this node is shutting down
        ├── FellBehind             503  ours: a shared answer went on without this reader
        ├── Superseded             409  ours: a newer attempt of the same job runs
        ├── Paused                 503  ours: the machine's owner lets it rest
        └── DeadlineExceeded       504  ours: time ran out; `phase` says where
            ├── ConnectTimedOut        504  no way to the server came about in time
            ├── FirstTokenTimedOut     504  no first token in time, the queue included
            ├── StreamSilent           504  a stream began and then said nothing for too long
            └── AnswerTimedOut         504  an answer that is not streamed was not there in time

Not for: exceptions of libraries. Each I/O room maps those where they arise, with `raise … from`.
"""

from __future__ import annotations

from copy import copy
from typing import ClassVar, Self


class MeshnodeError(Exception):
    """Base of every error of this package."""


class ConfigError(MeshnodeError):
    """The configuration cannot be used. `faults` lists every fault found, each with its origin."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


class StartError(MeshnodeError):
    """The node cannot start: an address or the home is in use. The message says by whom and what to do.

    `address` is the `host:port` that could not be listened on, where that is the reason.
    """

    def __init__(self, message: str, *, address: str | None = None) -> None:
        super().__init__(message)
        self.address = address


class DecodeError(MeshnodeError):
    """Bytes from outside do not decode: malformed, too large, too deep, not canonical, of a wrong type."""


class IdentityError(MeshnodeError):
    """A key, certificate, invite or secret file cannot be used."""


class CertificateRefused(IdentityError):
    """A certificate's signature, time, mesh, role or key does not fit."""


class InviteRefused(IdentityError):
    """An invite is unknown, used, expired, or for another mesh."""


class EvidenceRefused(IdentityError):
    """A weight manifest, an attestation or a receipt is forged, stale, somebody else's, or by nobody who is trusted."""


class SecretFileError(IdentityError):
    """A secret file is unreadable, truncated, or readable by others."""


class EngineUnavailable(MeshnodeError):
    """A local engine cannot be had: its software is missing, its model cannot be fetched, or it will not start."""


class LinkError(MeshnodeError):
    """Something between two nodes failed."""


class HandshakeFailed(LinkError):
    """No link came about: refused, timed out, or not who was expected."""


class LinkRefused(HandshakeFailed):
    """The other end knows the network secret, and refused this node in words."""


class AlreadyLinked(HandshakeFailed):
    """Whoever answered, `peer` (its id), has a link to this node, which is to stay."""

    def __init__(self, peer: bytes) -> None:
        super().__init__("there is a link to who answers there")
        self.peer = peer


class ProtocolViolation(LinkError):
    """The peer broke a rule of the protocol; the link is closed."""


class Tampered(ProtocolViolation):
    """What came is not what the peer sent, as far as anybody can tell: the link is closed, and nobody is to blame."""


class LinkClosed(LinkError):
    """The link ended while a stream was using it."""


class StreamReset(LinkError):
    """The peer cancelled one stream. `code` is its HTTP/2 error code."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class RequestError(MeshnodeError):
    """A request ends with this.

    `status` is the HTTP status, `kind` OpenAI's `type`, `code` OpenAI's `code` and the word that crosses links,
    `elsewhere` whether another server may succeed where this one failed; `load` is what the server said of its load as
    it refused, as dispatch.load writes it.
    """

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "server_error"
    code: ClassVar[str] = "internal_error"
    elsewhere: ClassVar[bool] = False

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.load = ""

    def at(self, node: str, advice: str = "") -> Self:
        """The same, whose text says at which node it happened; every machine has an engine at 127.0.0.1."""
        named = copy(self)
        named.message = f"{node}: {self.message}{advice}"
        named.args = (named.message,)
        return named


class BadRequest(RequestError):
    """The request is malformed, lacks a field, or asks for what no engine here can do."""

    status = 400
    kind = "invalid_request_error"
    code = "invalid_request"


class ContextExceeded(BadRequest):
    """The prompt is longer than the context of every node that offers the model."""

    code = "context_length_exceeded"


class Unauthorized(RequestError):
    """No key, or one that is not known."""

    status = 401
    kind = "authentication_error"
    code = "invalid_api_key"


class Forbidden(RequestError):
    """The caller may not do this: foreign Host or Origin, missing scope."""

    status = 403
    kind = "permission_error"
    code = "forbidden"


class NotShared(RequestError):
    """The machine takes only its owner's requests, now or always. Not broken: breakers do not count it."""

    status = 403
    kind = "permission_error"
    code = "not_shared"
    elsewhere = True


class ModelNotFound(RequestError):
    """No node of the mesh offers a model of this name."""

    status = 404
    kind = "invalid_request_error"
    code = "model_not_found"


class NotFound(RequestError):
    """There is nothing at this path, or no longer."""

    status = 404
    kind = "invalid_request_error"
    code = "not_found"


class Conflict(RequestError):
    """An idempotency key that was used for another request, or whose answer was delivered and is not kept."""

    status = 409
    kind = "invalid_request_error"
    code = "idempotency_conflict"


class BodyTooLarge(RequestError):
    """The request body is larger than this node accepts."""

    status = 413
    kind = "invalid_request_error"
    code = "request_too_large"


class Overloaded(RequestError):
    """Slots and queue are full. Full is not broken: breakers do not count it."""

    status = 429
    kind = "rate_limit_error"
    code = "overloaded"
    elsewhere = True


class EngineFailed(RequestError):
    """The engine could not be reached, refused, died or answered nonsense."""

    status = 502
    code = "engine_failed"
    elsewhere = True


class EngineDown(EngineFailed):
    """The mesh knows the model, and the engine that serves it is not there now: nobody listens where it was, or its
    node has noticed that it is gone."""

    status = 503
    code = "engine_down"
    elsewhere = True


class EngineUnauthorized(EngineFailed):
    """The engine refuses the credentials of the node in front of it, or wants some. The client's are not meant."""

    code = "engine_unauthorized"


class PeerFailed(RequestError):
    """The peer that was to answer, or the path to it, broke."""

    status = 502
    code = "peer_failed"
    elsewhere = True


class LeaseExpired(PeerFailed):
    """Nothing was heard of a job for as long as its lease: its server or a relay stands still, though links live."""

    code = "lease_expired"


class NoPeerReachable(RequestError):
    """The model is known, but no node that offers it can be reached now."""

    status = 503
    code = "no_peer_reachable"
    elsewhere = True


class NoEligibleNode(RequestError):
    """The request's rules (label, whose machines, quantisation, price) leave out every node that could serve it. It is
    never served below them."""

    status = 503
    code = "no_eligible_node"


class Draining(RequestError):
    """This node is shutting down and takes no new work."""

    status = 503
    code = "draining"
    elsewhere = True


class FellBehind(RequestError):
    """This client read an answer that it shares with others more slowly than this node can wait for."""

    status = 503
    code = "fell_behind"


class Paused(RequestError):
    """The machine's owner has it take no requests now. Not broken: breakers do not count it."""

    status = 503
    code = "paused"
    elsewhere = True


class DeadlineExceeded(RequestError):
    """Time ran out. `phase` says where: connect, first_token, silence, total."""

    status = 504
    code = "deadline_exceeded"

    usual_phase: ClassVar[str] = "total"

    def __init__(self, message: str, *, phase: str | None = None, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.phase = phase or self.usual_phase


class ConnectTimedOut(DeadlineExceeded):
    """No way to the server came about in time; another server may have one."""

    code = "connect_timeout"
    elsewhere = True
    usual_phase = "connect"


class FirstTokenTimedOut(DeadlineExceeded):
    """No first token came in time, the queue included."""

    code = "first_token_timeout"
    usual_phase = "first_token"


class StreamSilent(DeadlineExceeded):
    """A stream began and then said nothing for too long."""

    code = "stream_silent"
    usual_phase = "silence"


class AnswerTimedOut(DeadlineExceeded):
    """An answer that is not streamed was not there in time."""

    code = "answer_timeout"


class Superseded(RequestError):
    """A newer attempt of the same job runs at its server: nobody waits for this one."""

    status = 409
    code = "superseded"
    elsewhere = True


def _by_code() -> dict[str, type[RequestError]]:
    found: dict[str, type[RequestError]] = {}
    pending: list[type[RequestError]] = [RequestError]
    while pending:
        cls = pending.pop()
        found[cls.code] = cls
        pending.extend(cls.__subclasses__())
    return found


REQUEST_ERRORS: dict[str, type[RequestError]] = _by_code()
"""Every RequestError class by the code that names it between nodes."""

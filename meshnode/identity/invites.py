"""Invites: one line that lets one machine in, once, within a day. And the book its signer keeps.

The line carries a secret; the book keeps only a hint and derived keys, so that a stolen book shows no line. Keys
outlive an invite by a day, only to tell latecomers in words. Not for the link it is used on (mesh.join). Counterpart:
noise, which mixes `Secrets` in; join.py.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from meshnode.errors import DecodeError, InviteRefused
from meshnode.identity.certificates import Key, Owner, Role, WallTime
from meshnode.identity.credential import MAX_NAME, presentable
from meshnode.model import codec
from meshnode.model.ids import NodeId
from meshnode.model.psk import Secrets

PREFIX = "mesh1-"
VERSION = 1
SECRET_BYTES = 16
HINT_BYTES = 8
MAX_LIFETIME_S = 24 * 3600
MAX_ATTEMPTS = 3
"""Handshakes that got through with one invite: a joiner may lose its connection twice (protocol.md §1). One that did
not get through proves nothing and counts for nothing: the hint travels in the clear, and whoever saw it could use the
invite up otherwise."""

MAX_KEPT = 512
"""Invites remembered at once: more than anybody hands out in two days."""

KEPT_S = 24 * 3600
"""A used or expired invite is remembered so long, to be refused by its right name."""

_CHECKSUM_BYTES = 4
_MAX_TOKEN = 4096
_HINT_CONTEXT = b"meshnode invite hint 1\x00"

Hint = Annotated[bytes, Meta(min_length=HINT_BYTES, max_length=HINT_BYTES)]


class Unusable(enum.StrEnum):
    """Why an invite is refused by the node that made it."""

    UNKNOWN = "unknown"
    USED = "used"
    EXPIRED = "expired"
    TOO_MANY_ATTEMPTS = "too many attempts"


_WORDS = {
    Unusable.UNKNOWN: "this node did not make the invite, or has forgotten it",
    Unusable.USED: "the invite has been used{by}; make a new one for each machine",
    Unusable.EXPIRED: "the invite has expired; make a new one",
    Unusable.TOO_MANY_ATTEMPTS: f"the invite was tried {MAX_ATTEMPTS} times; make a new one",
}


class InviteNotUsable(InviteRefused):
    """An InviteRefused with its `reason`. `by` is the name of the machine that used it, where that is known."""

    def __init__(self, reason: Unusable, by: str = "") -> None:
        super().__init__(_WORDS[reason].format(by=f" by {by!r}" if by else ""))
        self.reason = reason


class Invite(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """What the line says: where to knock, who answers, with which secret, until when (wall-clock seconds)."""

    version: Annotated[int, Meta(ge=VERSION, le=VERSION)]
    mesh: Key
    addresses: Annotated[tuple[Annotated[str, Meta(max_length=128)], ...], Meta(max_length=16)]
    signer: Key
    secret: Annotated[bytes, Meta(min_length=SECRET_BYTES, max_length=SECRET_BYTES)]
    expires: WallTime

    def __repr__(self) -> str:
        return f"Invite(signer={NodeId(self.signer).short}, expires={self.expires})"

    @property
    def hint(self) -> bytes:
        """The 8 clear bytes that tell the signer which invite is meant."""
        return hashlib.sha256(_HINT_CONTEXT + self.secret).digest()[:HINT_BYTES]

    def psks(self) -> Secrets:
        """What both sides mix into the handshake."""
        return Secrets.derive(self.secret, b"join")

    def token(self) -> str:
        """The line: `mesh1-`, then url-safe base64 of the CBOR and a checksum against typing errors."""
        body = codec.encode(self)
        return PREFIX + _armoured(body)

    @classmethod
    def parse(cls, text: str, now: int) -> Invite:
        """Read a line, however a terminal broke it. Raises InviteRefused: not an invite, mistyped, or expired."""
        line = "".join(text[:_MAX_TOKEN].split())
        if not line.startswith(PREFIX):
            raise InviteRefused(f"not an invite: it begins with {PREFIX}")
        body = _unarmoured(line[len(PREFIX) :])
        try:
            invite = codec.decode(body, cls)
        except DecodeError as error:
            raise InviteRefused("the invite is of another version of meshnode") from error
        if now > invite.expires:
            raise InviteNotUsable(Unusable.EXPIRED)
        return invite


class StoredInvite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the signer keeps. `roles` None gives all that the signer can; `root` gives the root's seed as well.

    `attempts` counts handshakes that got through; `used_by` is the name of the machine that joined with it, or "".
    """

    hint: Hint
    expires: WallTime
    psks: Secrets
    roles: Annotated[tuple[Role, ...], Meta(max_length=len(Role))] | None = None
    owner: Owner = ""
    root: bool = False
    attempts: Annotated[int, Meta(ge=0, le=MAX_ATTEMPTS + 1)] = 0
    used: bool = False
    used_by: Annotated[str, Meta(max_length=MAX_NAME)] = ""


class InviteBook:
    """The signer's invites: each is good for three tries, one success, a day at most.

    Store `records()` after every call that changed something, before its result leaves this node.
    """

    def __init__(self, records: Iterable[StoredInvite] = ()) -> None:
        self._records = {record.hint: record for record in records}

    def issue(
        self,
        now: int,
        secret: bytes,
        *,
        mesh: bytes,
        signer: NodeId,
        addresses: tuple[str, ...],
        lifetime_s: int,
        roles: tuple[Role, ...] | None = None,
        owner: str = "",
        root: bool = False,
    ) -> tuple[str, StoredInvite]:
        """A new line and what is kept of it. `secret`: 16 bytes from the system's randomness.

        Raises ValueError for another length or a lifetime over a day, InviteRefused when too many are open.
        """
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"an invite's secret has {SECRET_BYTES} bytes")
        if not 0 < lifetime_s <= MAX_LIFETIME_S:
            raise ValueError(f"an invite lives 1..{MAX_LIFETIME_S} s")
        self._forget(now)
        if len(self._records) >= MAX_KEPT:
            raise InviteRefused(f"{MAX_KEPT} invites were made within two days: wait until some have expired")
        invite = Invite(VERSION, mesh, addresses, bytes(signer), secret, now + lifetime_s)
        granted = None if roles is None else tuple(sorted(set(roles)))
        record = StoredInvite(invite.hint, invite.expires, invite.psks(), granted, owner, root)
        self._records[record.hint] = record
        return invite.token(), record

    def attempt(self, hint: bytes, now: int) -> Secrets:
        """The keys for a handshake with this hint; changes nothing, since whoever begins one has proved nothing.

        An invite that is used or has expired still gets its handshake: `burn` refuses it then, over a link on which
        the reason can be said. Raises InviteNotUsable for a hint that is not known.
        """
        return self._known(hint, now).psks

    def got_through(self, hint: bytes, now: int) -> None:
        """Count a handshake that succeeded with this hint: the other end has the line."""
        record = self._known(hint, now)
        attempts = min(record.attempts + 1, MAX_ATTEMPTS + 1)
        self._records[hint] = msgspec.structs.replace(record, attempts=attempts)

    def burn(self, hint: bytes, now: int, by: str = "") -> StoredInvite:
        """Use the invite up, before the grant is sent: what it grants. `by` is the joiner's name for itself.

        Two joiners may have shaken hands with it; the second one's burn raises InviteNotUsable, as does one that
        comes too late or too often.
        """
        record = self._known(hint, now)
        if record.used:
            raise InviteNotUsable(Unusable.USED, record.used_by)
        if now > record.expires:
            raise InviteNotUsable(Unusable.EXPIRED)
        if record.attempts > MAX_ATTEMPTS:
            raise InviteNotUsable(Unusable.TOO_MANY_ATTEMPTS)
        burnt = msgspec.structs.replace(record, used=True, used_by=presentable(by))
        self._records[hint] = burnt
        return burnt

    def withdraw(self, hint: bytes) -> None:
        """As if it had never been made."""
        self._records.pop(hint, None)

    def records(self) -> tuple[StoredInvite, ...]:
        """Everything to store."""
        return tuple(self._records.values())

    def _known(self, hint: bytes, now: int) -> StoredInvite:
        record = self._records.get(hint)
        if record is None or now > record.expires + KEPT_S:
            raise InviteNotUsable(Unusable.UNKNOWN)
        return record

    def _forget(self, now: int) -> None:
        self._records = {hint: record for hint, record in self._records.items() if now <= record.expires + KEPT_S}


def _armoured(body: bytes) -> str:
    checksum = hashlib.sha256(body).digest()[:_CHECKSUM_BYTES]
    return base64.urlsafe_b64encode(body + checksum).decode().rstrip("=")


def _unarmoured(text: str) -> bytes:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InviteRefused("the invite is mistyped or cut short: copy the whole line") from error
    body = raw[:-_CHECKSUM_BYTES]
    # Comparing the text finds a wrong checksum, and a typing error in the last character's unused bits too.
    if _armoured(body) != text:
        raise InviteRefused("the invite is mistyped or cut short: its checksum is wrong; copy the whole line")
    return body

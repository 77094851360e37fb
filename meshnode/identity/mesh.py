"""A mesh as its members know it: id, name, network secret, and the secrets before that are still accepted.

Also the mesh of psk-tofu, which is nothing but a secret line. Not for who its members are (certificates, gossip), nor
for who may rotate (notices).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

from msgspec import Meta

from meshnode.errors import IdentityError
from meshnode.identity.certificates import Key, WallTime
from meshnode.identity.statements import Rotation
from meshnode.model.ids import NodeId
from meshnode.model.psk import Secrets, derive_key

SECRET_BYTES = 32

OLD_SECRET_S = 24 * 3600
"""A machine that was off for a day still gets in, and hears of the new secret (protocol.md §1)."""

MAX_OLDER = 4
"""Each old secret is one more that a stranger's first message is tried against."""

VOID = -1
"""The generation of a secret whose rotation came from somebody the root has revoked: any other goes before it."""

TOFU_PREFIX = "meshnode-secret-1-"
_TOFU_CONTEXT = b"meshnode tofu 1\x00"
_TOFU_CHECKSUM_BYTES = 4
_MAX_TOFU_LINE = 256

Maker = Annotated[bytes, Meta(max_length=32)]
"""The member that rotated to a secret; empty: the root, or the secret that the mesh began with."""

MeshName = Annotated[str, Meta(min_length=1, max_length=64)]
Generation = Annotated[int, Meta(ge=VOID, le=2**41)]


@dataclass(frozen=True, slots=True)
class OldSecret:
    """A network secret of the past: made at `at`, accepted until `until` (wall-clock seconds)."""

    secret: Key = field(repr=False)
    generation: Generation
    until: WallTime
    at: WallTime = 0
    maker: Maker = b""


@dataclass(frozen=True, slots=True)
class Mesh:
    """`id` is the root's public key, 32 bytes; `secret` the 256-bit network secret, never shown by `repr`.

    `generation` counts rotations of the secret, `at` is when and `maker` by whom it was made; `older` are those before,
    newest first. Makers are kept with the secrets: whoever is revoked later may have made one long before, or told it
    to a node that never heard the notice.
    """

    id: Key
    name: MeshName
    secret: Key = field(repr=False)
    generation: Generation = 0
    older: Annotated[tuple[OldSecret, ...], Meta(max_length=MAX_OLDER)] = field(default=(), repr=False)
    at: WallTime = 0
    maker: Maker = b""

    def secrets(self, now: int) -> tuple[Secrets, ...]:
        """What members' handshakes may mix in: the present secret first, then those still accepted."""
        accepted = [self.secret, *(old.secret for old in self.older if now <= old.until)]
        return tuple(Secrets.derive(secret, b"member") for secret in accepted)

    def rotated(self, rotation: Rotation, now: int) -> Mesh:
        """With this rotation known as well: the highest generation is the present one, in whatever order and however
        often they come; of equal ones the larger secret."""
        return self.settled((rotation,), (), now)

    def settled(
        self,
        rotations: Collection[Rotation],
        out: Collection[bytes],
        now: int,
        makers: Mapping[bytes, bytes] | None = None,
    ) -> Mesh:
        """As the notices have it: all `rotations` known, and secrets made by members that are `out` behind all others.
        Those are accepted a day more, and one that is the last stays: others may have no better. `makers`: the member
        that made a secret, where nobody else vouches for it."""
        found = [_Secret(one.generation, one.secret, one.at, (makers or {}).get(one.secret, b"")) for one in rotations]
        # What is vouched for now counts as those say who vouch: a generation that a revoked member gave it does not.
        vouched = {secret.secret for secret in found if secret.maker not in out}
        known = [_Secret(old.generation, old.secret, old.at, old.maker, old.until) for old in self.older]
        known = [secret for secret in known if now <= secret.until]
        known.append(_Secret(self.generation, self.secret, self.at, self.maker))
        known = [secret for secret in known if secret.secret not in vouched] + found
        known = [secret.voided(now) if secret.maker in out else secret for secret in known]
        present, *rest = sorted(_each_once(known), key=lambda one: (one.generation, one.secret), reverse=True)
        older = _older(present, rest, now)
        return Mesh(self.id, self.name, present.secret, present.generation, older, present.at, present.maker)


class _Secret(NamedTuple):
    """One of a mesh's secrets. `until` is set once it was void, or is computed from those before which it stands."""

    generation: int
    secret: bytes
    at: int
    maker: bytes = b""
    until: int = 0

    def voided(self, now: int) -> _Secret:
        if self.generation == VOID:
            return self
        return self._replace(generation=VOID, until=self.until or now + OLD_SECRET_S)


def _each_once(known: Iterable[_Secret]) -> Collection[_Secret]:
    """Each secret once: a void one stays void, else as the highest generation and the earliest time have it."""
    found: dict[bytes, _Secret] = {}
    for one in sorted(known, key=lambda one: (one.generation != VOID, -one.generation, one.at)):
        found.setdefault(one.secret, one)
    return found.values()


def _older(present: _Secret, rest: Iterable[_Secret], now: int) -> tuple[OldSecret, ...]:
    """Those still accepted, newest first: for a day after the first that goes before them was made. Of too many those
    are dropped that were in use for the shortest time: fewest machines slept through the rest of it."""
    found: list[OldSecret] = []
    reigns: list[int] = []
    superseded_at = present.at
    for one in rest:
        # A void one has its day from when it became void: until then it was the present one.
        until = one.until if one.generation == VOID and one.until else superseded_at + OLD_SECRET_S
        if now <= until:
            found.append(OldSecret(one.secret, one.generation, until, one.at, one.maker))
            reigns.append(superseded_at - one.at)
        superseded_at = min(superseded_at, one.at)
    while len(found) > MAX_OLDER:
        shortest = reigns.index(min(reigns))
        del found[shortest], reigns[shortest]
    return tuple(found)


def new_tofu_secret(random: bytes) -> str:
    """The line that every machine of a psk-tofu mesh holds. `random`: 32 bytes from the system's randomness; raises
    ValueError for another length."""
    if len(random) != SECRET_BYTES:
        raise ValueError(f"a network secret has {SECRET_BYTES} bytes")
    raw = random + _checksum(random)
    return TOFU_PREFIX + base64.b32encode(raw).decode().rstrip("=").lower()


def tofu_mesh(secret_text: str) -> Mesh:
    """The mesh that a secret line is. Raises IdentityError, which never repeats the line."""
    line = "".join(secret_text[:_MAX_TOFU_LINE].split()).lower()
    if not line.startswith(TOFU_PREFIX):
        raise IdentityError(f"not a mesh secret: it begins with {TOFU_PREFIX}")
    text = line.removeprefix(TOFU_PREFIX)
    try:
        raw = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        raise _mistyped() from None  # the cause would show the line
    secret = raw[:-_TOFU_CHECKSUM_BYTES]
    if len(secret) != SECRET_BYTES or new_tofu_secret(secret) != line:
        raise _mistyped()
    mesh = hashlib.sha256(_TOFU_CONTEXT + secret).digest()
    return Mesh(mesh, f"lan-{NodeId(mesh).short}", derive_key(secret, b"tofu network"))


def _checksum(secret: bytes) -> bytes:
    return hashlib.sha256(_TOFU_CONTEXT + b"checksum" + secret).digest()[:_TOFU_CHECKSUM_BYTES]


def _mistyped() -> IdentityError:
    return IdentityError("the mesh secret is mistyped or cut short: copy the whole line")

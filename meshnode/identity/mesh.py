"""A mesh as its members know it: id, name, network secret. Not for who its members are (certificates, gossip)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta

from meshnode.identity.certificates import Key
from meshnode.model.psk import Secrets

SECRET_BYTES = 32
MeshName = Annotated[str, Meta(min_length=1, max_length=64)]


@dataclass(frozen=True, slots=True)
class Mesh:
    """`id` is the root's public key, 32 bytes; `secret` the 256-bit network secret, never shown by `repr`."""

    id: Key
    name: MeshName
    secret: Key = field(repr=False)

    def psks(self) -> Secrets:
        """What members' handshakes mix in."""
        return Secrets.derive(self.secret, b"member")

"""A node's home: which file holds what, and loading or making each without ever replacing an identity silently.

    config.toml     read by config                     node.key       the node's Ed25519 seed
    mesh.cbor       mesh, chain, perhaps its root      invites.cbor   open invites: hints and derived keys
    notices.cbor    who was revoked, new secrets       pins.cbor      ids pinned and barred, names and their ids
    mesh.secret     the secret line of psk-tofu        control.secret what the local CLI proves itself with
    incarnation     starts of this node, ever growing  run.json       where the running node listens
    paused          whose requests a pause lets in     lock, addresses.cbor, models/

Synchronous, for start-up (or a thread). Not for what certificates mean (identity). Counterpart: node.py opens it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Self, TypeVar

import msgspec
import platformdirs
from msgspec import Meta

from meshnode.errors import CertificateRefused, DecodeError, IdentityError, SecretFileError
from meshnode.identity import (
    InviteBook,
    Issuer,
    Mesh,
    MeshRoot,
    NodeKey,
    Notice,
    Pins,
    Signed,
    StoredInvite,
    new_tofu_secret,
    tofu_mesh,
)
from meshnode.identity.certificates import Key, read_membership
from meshnode.keep.lock import HomeLock
from meshnode.keep.secrets import create_secret, private_directory, read_secret, remove_secret, write_secret
from meshnode.model import codec

T = TypeVar("T")

CONTROL_SECRET_BYTES = 32

_COUNTER_DIGITS = 19
"""Of 2^62, the largest counter that an advert holds."""

MAX_TABLE_BYTES = 4 << 20
"""Notices and pins: both tables are bounded, and full they have 2 MiB."""

OF_MESH = ("mesh.cbor", "invites.cbor", "notices.cbor", "pins.cbor", "addresses.cbor")
"""What leaving a mesh removes, in this order: without the first, the others mean nothing."""


class _NodeFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="meshnode node 1", tag_field="t"):
    # The id tells a damaged seed from a good one: every 32 bytes are somebody's key.
    seed: Key
    id: Key


class Membership(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="meshnode mesh 1", tag_field="t"):
    """The mesh this node is in, the chain that makes it a member, and the root's seed where this node founded it."""

    mesh: Mesh
    chain: Annotated[tuple[Signed, ...], Meta(max_length=8)]
    root_seed: Key | None = None

    def __repr__(self) -> str:
        return f"Membership({self.mesh!r}, founded here: {self.root_seed is not None})"

    def issuer(self, key: NodeKey) -> Issuer:
        """Who this node invites as: the root it holds, or itself. Raises CertificateRefused when it may not."""
        if self.root_seed is not None:
            return Issuer(MeshRoot.from_seed(self.root_seed), self.mesh.id)
        return Issuer(key, self.mesh.id, self.chain)


class _InviteFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="meshnode invites 1", tag_field="t"):
    invites: tuple[StoredInvite, ...]


class _NoticeFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="meshnode notices 1", tag_field="t"):
    mesh: Key
    notices: tuple[Notice, ...]


class _PinFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="meshnode pins 1", tag_field="t"):
    pins: Pins


def default_home(environment: Mapping[str, str]) -> Path:
    """`MESHNODE_HOME`, or the place for a program's data on this system."""
    named = environment.get("MESHNODE_HOME")
    return Path(named).expanduser().absolute() if named else platformdirs.user_data_path("meshnode", appauthor=False)


class Home:
    """The files of one node. As a context manager it holds the home's lock."""

    def __init__(self, path: Path, wall_clock: Callable[[], float] = time.time) -> None:
        """Makes the directory (0700) where it is missing. Raises SecretFileError."""
        self.path = path
        self.config = path / "config.toml"
        self.run = path / "run.json"
        self.addresses = path / "addresses.cbor"
        self.models = path / "models"
        self._wall_clock = wall_clock
        self._lock: HomeLock | None = None
        for directory in (path, self.models):
            private_directory(directory)

    def __enter__(self) -> Self:
        self._lock = HomeLock(self.path / "lock")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.release()

    def node_key(self) -> NodeKey:
        """This node's identity; made on the first start. Raises SecretFileError, also when the key is gone of a node
        that others may know by it."""
        path = self.path / "node.key"
        stored = self._load(path, _NodeFile)
        if stored is None:
            # Whoever was here before is known by its key to others, in psk-tofu without any mesh.cbor.
            known = [name for name in ("mesh.cbor", "incarnation") if (self.path / name).exists()]
            if known:
                raise SecretFileError(
                    f"{path} is missing, but a node has been here: restore it, "
                    f"or move {' and '.join(known)} in {self.path} away to begin as a new node"
                )
            key = NodeKey.generate()
            create_secret(path, codec.encode(_NodeFile(key.seed, key.public)))
            return key
        key = NodeKey.from_seed(stored.seed)
        if key.public != stored.id:
            raise SecretFileError(f"{path} is damaged: its key is not its id. Restore it from a copy")
        return key

    def membership(self, key: NodeKey) -> Membership | None:
        """The mesh this node is in, or None. Raises SecretFileError, also when the file is another node's."""
        path = self.path / "mesh.cbor"
        stored = self._load(path, Membership)
        if stored is None:
            return None
        try:
            member = read_membership(stored.chain[0]).node if stored.chain else b""
        except CertificateRefused as error:
            raise SecretFileError(f"{path} is damaged: {error}. Restore it from a copy") from error
        if member != key.public:
            raise SecretFileError(f"{path} is another node's: restore its node.key, or move it away to begin anew")
        if stored.root_seed is not None and MeshRoot.from_seed(stored.root_seed).mesh != stored.mesh.id:
            raise SecretFileError(f"{path} is damaged: its root is another mesh's. Restore it from a copy")
        return stored

    def found_mesh(self, key: NodeKey, name: str, owner: str = "") -> Membership:
        """Begin a mesh of one. Raises SecretFileError when this node is in a mesh already."""
        root = MeshRoot.generate()
        mesh = Mesh(root.mesh, name, secrets.token_bytes(32))
        chain = Issuer(root, mesh.id).issue(key.id, int(self._wall_clock()), secrets.randbits(63), owner=owner)
        membership = Membership(mesh, chain, root.seed)
        create_secret(self.path / "mesh.cbor", codec.encode(membership))
        return membership

    def save_membership(self, membership: Membership) -> None:
        """Keep a mesh that was joined, or a renewed chain. Raises SecretFileError."""
        write_secret(self.path / "mesh.cbor", codec.encode(membership))

    def invites(self) -> InviteBook:
        """The invites made by this node; an empty book on the first start. Raises SecretFileError."""
        stored = self._load(self.path / "invites.cbor", _InviteFile)
        return InviteBook(stored.invites if stored is not None else ())

    def save_invites(self, book: InviteBook) -> None:
        """Keep the book as it is now. Raises SecretFileError."""
        write_secret(self.path / "invites.cbor", codec.encode(_InviteFile(book.records())))

    def notices(self, mesh_id: bytes) -> tuple[Notice, ...]:
        """The notices kept for this mesh, none where the file is another mesh's. Raises SecretFileError."""
        stored = self._load(self.path / "notices.cbor", _NoticeFile)
        return stored.notices if stored is not None and stored.mesh == mesh_id else ()

    def save_notices(self, mesh_id: bytes, notices: Iterable[Notice]) -> None:
        """Keep these for this mesh. Raises SecretFileError."""
        write_secret(self.path / "notices.cbor", codec.encode(_NoticeFile(mesh_id, tuple(notices))))

    def pins(self) -> Pins:
        """Pins, names and bars kept; none on the first start. Raises SecretFileError."""
        stored = self._load(self.path / "pins.cbor", _PinFile)
        return stored.pins if stored is not None else Pins()

    def save_pins(self, pins: Pins) -> None:
        """Keep these. Raises SecretFileError."""
        write_secret(self.path / "pins.cbor", codec.encode(_PinFile(pins)))

    def leave_mesh(self) -> None:
        """Forget the mesh for good, this node's key excepted; durable on return, and the membership went first, so
        that after a crash in between this node is out. Raises SecretFileError."""
        for name in OF_MESH:
            remove_secret(self.path / name)

    def tofu_secret(self) -> str | None:
        """The secret line of psk-tofu, or None. Raises SecretFileError, also for a line that is mistyped."""
        path = self.path / "mesh.secret"
        data = read_secret(path, limit=1024)
        if data is None:
            return None
        text = data.decode(errors="replace").strip()
        try:
            tofu_mesh(text)
        except IdentityError as error:
            raise SecretFileError(f"{path}: {error}, or copy the file again from another machine") from error
        return text

    def make_tofu_secret(self) -> str:
        """A new secret line, kept before it is returned. Raises SecretFileError when there is one already."""
        text = new_tofu_secret(secrets.token_bytes(32))
        self.save_tofu_secret(text)
        return text

    def save_tofu_secret(self, text: str) -> None:
        """Keep the line of another machine. Raises IdentityError for a line that is mistyped, SecretFileError when
        there is another one already: another secret is another mesh."""
        mesh = tofu_mesh(text)
        known = self.tofu_secret()
        if known is None or tofu_mesh(known) != mesh:
            create_secret(self.path / "mesh.secret", "".join(text.split()).lower().encode() + b"\n")

    def bump_incarnation(self) -> int:
        """A number larger than at any start before, kept before it is returned: the wall clock, or one more than the
        last. A lost file is made good by the clock. Raises SecretFileError for a damaged one."""
        incarnation = max(self._incarnation() + 1, int(self._wall_clock()))
        write_secret(self._counter, b"%d\n" % incarnation)
        return incarnation

    def keep_incarnation(self, incarnation: int) -> None:
        """Count on from this one, which the mesh showed to be the latest; durable on return. Raises SecretFileError."""
        if incarnation > self._incarnation():
            write_secret(self._counter, b"%d\n" % incarnation)

    @property
    def _counter(self) -> Path:
        return self.path / "incarnation"

    def _incarnation(self) -> int:
        data = read_secret(self._counter, limit=32)
        text = data.strip() if data is not None else b"0"
        if not text.isdigit() or len(text) > _COUNTER_DIGITS:
            raise SecretFileError(f"{self._counter} is damaged: remove it, the clock makes it good")
        return int(text)

    def control_secret(self) -> str:
        """What the CLI on this machine shows the node, 64 hex digits; made on the first start. Raises
        SecretFileError."""
        path = self.path / "control.secret"
        data = read_secret(path, limit=128)
        if data is None:
            fresh = secrets.token_hex(CONTROL_SECRET_BYTES)
            create_secret(path, fresh.encode() + b"\n")
            return fresh
        try:
            found = bytes.fromhex(data.decode())
        except ValueError as error:
            raise SecretFileError(f"{path} is damaged: remove it, the next start makes a new one") from error
        if len(found) != CONTROL_SECRET_BYTES:
            raise SecretFileError(f"{path} is cut short: remove it, the next start makes a new one")
        return found.hex()

    def write_run(self, facts: Mapping[str, Any]) -> None:
        """Say where this node listens, for the CLI: what JSON can hold."""
        write_secret(self.run, msgspec.json.encode(facts) + b"\n")

    def read_run(self) -> dict[str, Any] | None:
        """What a running node said, or None. Raises SecretFileError."""
        data = read_secret(self.run)
        if data is None:
            return None
        try:
            return msgspec.json.decode(data, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SecretFileError(f"{self.run} is damaged: remove it") from error

    def clear_run(self) -> None:
        """The node has stopped. After a crash run.json stays: readers try the address before they believe it."""
        try:
            self.run.unlink(missing_ok=True)
        except OSError as error:
            raise SecretFileError(f"cannot remove {self.run}: {error.strerror}") from error

    def _load(self, path: Path, kind: type[T]) -> T | None:
        data = read_secret(path, limit=MAX_TABLE_BYTES)
        if data is None:
            return None
        try:
            return codec.decode(data, kind, limit=len(data))
        except DecodeError as error:
            raise SecretFileError(
                f"{path} is cut short, damaged or another kind of file ({error}): restore it from a copy"
            ) from error

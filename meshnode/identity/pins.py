"""What this node's owner decided by hand, or this node saw first: ids pinned, ids barred, names kept to their keys.

Bounded; nothing is ever pushed out to make room, since forgetting a pin silently is what an attacker would want. Not
for certificates (trust.py puts both together) nor for storing (keep).
"""

from __future__ import annotations

import unicodedata
from typing import Annotated

import msgspec
from msgspec import Meta

from meshnode.errors import CertificateRefused
from meshnode.identity.certificates import Key
from meshnode.model.ids import NodeId

MAX_PINS = 4096
"""Of each kind: four times the nodes of the largest mesh that is planned for."""

MAX_NAMES_OF_ONE = 8
"""Names pinned to one key: a machine is renamed now and then; one key must not fill the table."""

MAX_FOLDED = 256
"""Characters of a folded name: some letters become three."""

# Letters, marks and signs that are drawn as nothing though str.isprintable lets them pass (Unicode property
# Default_Ignorable_Code_Point, what of it is not of category Cf): two names that differ by them look the same.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0") | frozenset(
    map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
)


class Barred(CertificateRefused):
    """The other end is out, whatever its certificates say: revoked, not pinned, locally barred, or under a name that
    is another key's. The message says which."""


class Pins(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is stored. Names are folded, each with the id it belongs to."""

    pinned: Annotated[tuple[Key, ...], Meta(max_length=MAX_PINS)] = ()
    names: Annotated[
        tuple[tuple[Annotated[str, Meta(max_length=MAX_FOLDED)], Key], ...], Meta(max_length=MAX_PINS)
    ] = ()
    barred: Annotated[tuple[Key, ...], Meta(max_length=MAX_PINS)] = ()

    def holds(self, node: NodeId) -> bool:
        """Whether the node is pinned, by its id or by a name."""
        return node in self.pinned or any(key == node for _, key in self.names)


def check_name(name: str) -> None:
    """Raises CertificateRefused for a name that could not be shown as it is."""
    if not name.isprintable():
        raise CertificateRefused("the node's name holds characters that cannot be printed")


def folded(name: str) -> str:
    """The form in which names are compared: names that look alike because of case, width, composition, spaces or
    invisible characters are one (Unicode NFKC and case folding). Letters of different scripts stay different.

    Raises CertificateRefused for a name with nothing to see.
    """
    check_name(name)
    visible = "".join(character for character in name if character not in _INVISIBLE)
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", visible).casefold())
    result = " ".join(plain.split())
    if not result or len(result) > MAX_FOLDED:
        raise CertificateRefused("the node has no name, or none that could be compared")
    return result


class PinTable:
    """Pins as they are now. `pins` is another object whenever something in it has changed."""

    def __init__(self, pins: Pins) -> None:
        self.pins = pins
        self._pinned = frozenset(map(NodeId, pins.pinned))
        self._barred = frozenset(map(NodeId, pins.barred))
        self._names = {name: NodeId(key) for name, key in pins.names}

    def pinned(self, node: NodeId) -> bool:
        """Whether the id is pinned."""
        return node in self._pinned

    def barred(self, node: NodeId) -> bool:
        """Whether the id is barred at this node."""
        return node in self._barred

    def check_name_of(self, node: NodeId, name: str) -> None:
        """Raises Barred when the name is another key's, CertificateRefused when it is none."""
        owner = self._names.get(folded(name), node)
        if owner != node:
            raise Barred(
                f"the name {name!r} belongs to {owner.short}, and {node.short} came with it: somebody poses as that "
                f"machine, or it lost its key; if it did, `meshnode peers forget {owner.short}` lets the new one in"
            )

    def add_name(self, node: NodeId, name: str) -> bool:
        """Keep the name to this id. Returns whether that is new. Raises as check_name_of does, and Barred when there
        is no room."""
        self.check_name_of(node, name)
        key = folded(name)
        if key in self._names:
            return False
        if sum(owner == node for owner in self._names.values()) >= MAX_NAMES_OF_ONE:
            raise Barred(f"{node.short} has come under {MAX_NAMES_OF_ONE} other names: `meshnode peers forget` them")
        _check_room(len(self._names), "names")
        self._names[key] = node
        return self._store()

    def pin(self, node: NodeId) -> bool:
        """Pin the id and lift a bar of it. Returns whether that is new. Raises Barred when there is no room."""
        if node not in self._pinned:
            _check_room(len(self._pinned), "pins")
        self._pinned |= {node}
        self._barred -= {node}
        return self._store()

    def bar(self, node: NodeId) -> bool:
        """Bar the id. Returns whether that is new. Raises Barred when there is no room."""
        if node not in self._barred:
            _check_room(len(self._barred), "bars")
        self._barred |= {node}
        return self._store()

    def forget(self, node: NodeId) -> bool:
        """Drop everything about the id. Returns whether there was anything."""
        self._pinned -= {node}
        self._barred -= {node}
        self._names = {name: owner for name, owner in self._names.items() if owner != node}
        return self._store()

    def _store(self) -> bool:
        names = tuple(sorted((name, bytes(owner)) for name, owner in self._names.items()))
        now = Pins(tuple(sorted(map(bytes, self._pinned))), names, tuple(sorted(map(bytes, self._barred))))
        if now == self.pins:
            return False
        self.pins = now
        return True


def _check_room(count: int, what: str) -> None:
    if count >= MAX_PINS:
        raise Barred(f"{MAX_PINS} {what} are kept already, and none is dropped to make room: forget some peers first")

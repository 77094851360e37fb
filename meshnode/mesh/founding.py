"""Which mesh this node is in when it starts, and the private one that it founds when there is none.

Not for joining (join.py). What a membership is, identity and keep say.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence

import msgspec

from meshnode.config import Config
from meshnode.errors import ConfigError, IdentityError
from meshnode.gossip.candidates import well_formed
from meshnode.identity import NodeKey, TrustMode, tofu_mesh
from meshnode.identity.certificates import read_membership
from meshnode.keep.home import Home, Membership
from meshnode.mesh.addresses import MOST, is_everywhere
from meshnode.mesh.papers import pinned_ids
from meshnode.model import owner


def own_membership(home: Home, key: NodeKey, config: Config) -> Membership:
    """The mesh this node is in; a private one of its own at the first start. Raises IdentityError."""
    if TrustMode(config.mesh.trust) is TrustMode.PSK_TOFU:
        return _of_secret(home)
    found, mine = home.membership(key), config.node.owner
    if found is None:
        return home.found_mesh(key, "home", mine)
    own = read_membership(found.chain[0])
    if found.root_seed is not None and mine and mine != own.owner:
        # The root's holder says itself whose machine it is; everybody else's inviter does.
        chain = found.issuer(key).issue(key.id, int(time.time()), secrets.randbits(63), roles=own.roles, owner=mine)
        found = msgspec.structs.replace(found, chain=chain)
        home.save_membership(found)
    return found


def found_anew(home: Home, key: NodeKey, config: Config) -> Membership:
    """Forget the mesh and found a private one. Raises SecretFileError."""
    home.leave_mesh()
    return home.found_mesh(key, "home", config.node.owner)


def check(config: Config) -> None:
    """Raises ConfigError with every peer and told address that is none, every pin that is no id, and an owner that no
    request could name."""
    mesh = config.mesh
    faults = [f"mesh.peers: not an address: {one!r:.80}" for one in mesh.peers if not well_formed(one)]
    faults += [f"mesh.advertise: {fault}" for fault in _untellable(mesh.advertise)]
    if not owner.is_owner(config.node.owner):
        faults.append(f"node.owner: {owner.RULE}")
    try:
        pinned_ids(config)
    except ConfigError as error:
        faults += error.faults
    if faults:
        raise ConfigError(faults)


def _untellable(addresses: Sequence[str]) -> Iterator[str]:
    """What is wrong with addresses that others are to dial."""
    for address in addresses:
        host = address.rpartition(":")[0].strip("[]")
        if not well_formed(address):
            yield f"not an address: {address!r:.80}"
        elif is_everywhere(host):
            yield f"{address} is every interface of this machine, and nothing that others could dial"
    if len(addresses) > MOST:
        yield f"{len(addresses)} addresses, and at most {MOST} are told"


def _of_secret(home: Home) -> Membership:
    text = home.tofu_secret()
    if text is None:
        raise IdentityError(
            f"mesh.trust is psk-tofu, but there is no {home.path / 'mesh.secret'}: `meshnode mesh secret` makes one; "
            "copy it to every machine of the mesh"
        )
    return Membership(tofu_mesh(text), ())

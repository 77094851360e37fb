"""Which mesh this node is in when it starts, and the private one that it founds when there is none.

Not for joining (join.py). What a membership is, identity and keep say.
"""

from __future__ import annotations

import secrets
import time

import msgspec

from meshnode.config import Config
from meshnode.errors import ConfigError, HandshakeFailed, IdentityError
from meshnode.identity import NodeKey, TrustMode, tofu_mesh
from meshnode.identity.certificates import read_membership
from meshnode.keep.home import Home, Membership
from meshnode.mesh.papers import pinned_ids
from meshnode.net.dial import split_address


def own_membership(home: Home, key: NodeKey, config: Config) -> Membership:
    """The mesh this node is in; a private one of its own at the first start. Raises IdentityError."""
    if TrustMode(config.mesh.trust) is TrustMode.PSK_TOFU:
        return _of_secret(home)
    found, owner = home.membership(key), config.node.owner
    if found is None:
        return home.found_mesh(key, "home", owner)
    own = read_membership(found.chain[0])
    if found.root_seed is not None and owner and owner != own.owner:
        # The root's holder says itself whose machine it is; everybody else's inviter does.
        chain = found.issuer(key).issue(key.id, int(time.time()), secrets.randbits(63), roles=own.roles, owner=owner)
        found = msgspec.structs.replace(found, chain=chain)
        home.save_membership(found)
    return found


def found_anew(home: Home, key: NodeKey, config: Config) -> Membership:
    """Forget the mesh and found a private one. Raises SecretFileError."""
    home.leave_mesh()
    return home.found_mesh(key, "home", config.node.owner)


def check(config: Config) -> None:
    """Raises ConfigError with every peer that is no address and every pin that is no id."""
    faults = []
    for address in config.mesh.peers:
        try:
            split_address(address)
        except HandshakeFailed as error:
            faults.append(f"mesh.peers: {error}")
    try:
        pinned_ids(config)
    except ConfigError as error:
        faults += error.faults
    if faults:
        raise ConfigError(faults)


def _of_secret(home: Home) -> Membership:
    text = home.tofu_secret()
    if text is None:
        raise IdentityError(
            f"mesh.trust is psk-tofu, but there is no {home.path / 'mesh.secret'}: `meshnode mesh secret` makes one; "
            "copy it to every machine of the mesh"
        )
    return Membership(tofu_mesh(text), ())

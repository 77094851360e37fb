"""One mesh with its root and a few nodes, from fixed seeds."""

from __future__ import annotations

from meshnode.identity import Issuer, Mesh, MeshRoot, NodeKey, Role, Signed
from meshnode.identity.certificates import Chain, MembershipCertificate
from meshnode.identity.keys import SEED_BYTES
from meshnode.model import codec

NOW = 1_800_000_000
DAY = 86_400

ROOT = MeshRoot.from_seed(b"r" * SEED_BYTES)
FOREIGN_ROOT = MeshRoot.from_seed(b"f" * SEED_BYTES)
MESH = Mesh(ROOT.mesh, "home", b"s" * 32)
ALICE = NodeKey.from_seed(b"a" * SEED_BYTES)
BOB = NodeKey.from_seed(b"b" * SEED_BYTES)
CAROL = NodeKey.from_seed(b"c" * SEED_BYTES)

BY_ROOT = Issuer(ROOT, MESH.id)
X25519 = b"x" * 32


def alice_chain() -> Chain:
    """Alice was invited by the root and may invite."""
    return BY_ROOT.issue(ALICE.id, NOW, 1, owner="alice")


def bob_chain() -> Chain:
    """Bob was invited by Alice."""
    return Issuer(ALICE, MESH.id, alice_chain()).issue(BOB.id, NOW, 2, owner="bob")


def membership(signer: MeshRoot | NodeKey, context: bytes, node: NodeKey, **changes: object) -> Signed:
    """A membership certificate with anything at all inside, signed."""
    fields: dict[str, object] = {
        "node": node.public,
        "roles": tuple(sorted(Role)),
        "owner": "",
        "not_before": NOW - 300,
        "not_after": NOW + 30 * DAY,
        "serial": 7,
        "mesh": MESH.id,
        "issuer": signer.public,
    }
    body = codec.encode(MembershipCertificate(**{**fields, **changes}))  # type: ignore[arg-type]
    return Signed(body, signer.sign(context, body))

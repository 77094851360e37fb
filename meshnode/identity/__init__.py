"""Who a node is and why a mesh believes it: keys, certificates, invites, join messages. Pure.

Not for handshakes (noise) nor for files (keep). Time is wall-clock seconds handed in; so is what must be random.
"""

from meshnode.identity.certificates import (
    LINK_LIFETIME_S,
    MEMBERSHIP_LIFETIME_S,
    Issuer,
    LinkCertificate,
    MembershipCertificate,
    Role,
    Signed,
    certify_link,
)
from meshnode.identity.credential import (
    Credential,
    Peer,
    check_chain,
    check_join_payload,
    check_payload,
    pack_join_payload,
    pack_payload,
)
from meshnode.identity.invites import Invite, InviteBook, InviteNotUsable, StoredInvite, Unusable
from meshnode.identity.join import JoinGrant, JoinRequest, accept_grant, make_grant
from meshnode.identity.keys import MeshRoot, NodeKey, verify
from meshnode.identity.mesh import Mesh

__all__ = [
    "LINK_LIFETIME_S",
    "MEMBERSHIP_LIFETIME_S",
    "Credential",
    "Invite",
    "InviteBook",
    "InviteNotUsable",
    "Issuer",
    "JoinGrant",
    "JoinRequest",
    "LinkCertificate",
    "MembershipCertificate",
    "Mesh",
    "MeshRoot",
    "NodeKey",
    "Peer",
    "Role",
    "Signed",
    "StoredInvite",
    "Unusable",
    "accept_grant",
    "certify_link",
    "check_chain",
    "check_join_payload",
    "check_payload",
    "make_grant",
    "pack_join_payload",
    "pack_payload",
    "verify",
]

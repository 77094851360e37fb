"""Who a node is and why a mesh believes it: keys, certificates, invites, notices, trust, renewals. Pure.

Not for handshakes (noise) nor for files (keep). Time is wall-clock seconds handed in; so is what must be random.
"""

from meshnode.identity.certificates import (
    LINK_LIFETIME_S,
    MEMBERSHIP_LIFETIME_S,
    LinkCertificate,
    MembershipCertificate,
    Role,
    Signed,
    certify_link,
    pack_chain,
    unpack_chain,
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
from meshnode.identity.issuer import Issuer
from meshnode.identity.join import JoinGrant, JoinRequest, accept_grant, make_grant
from meshnode.identity.keys import MeshRoot, NodeKey, verify
from meshnode.identity.mesh import Mesh, OldSecret, new_tofu_secret, tofu_mesh
from meshnode.identity.notices import Notices
from meshnode.identity.pins import Barred, Pins
from meshnode.identity.renewal import accept_renewal, ask_renewal, renew
from meshnode.identity.statements import Notice, Revocation, Rotation
from meshnode.identity.trust import Trust, TrustMode

__all__ = [
    "LINK_LIFETIME_S",
    "MEMBERSHIP_LIFETIME_S",
    "Barred",
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
    "Notice",
    "Notices",
    "OldSecret",
    "Peer",
    "Pins",
    "Revocation",
    "Role",
    "Rotation",
    "Signed",
    "StoredInvite",
    "Trust",
    "TrustMode",
    "Unusable",
    "accept_grant",
    "accept_renewal",
    "ask_renewal",
    "certify_link",
    "check_chain",
    "check_join_payload",
    "check_payload",
    "make_grant",
    "new_tofu_secret",
    "pack_chain",
    "pack_join_payload",
    "pack_payload",
    "renew",
    "tofu_mesh",
    "unpack_chain",
    "verify",
]

"""What can be verified of a node beyond its membership: weights, attestation, receipts; and whom to ask for it. Pure.

Not for who is a member (identity) nor for what a posture is needed for (routing). Signing is a callable handed in; time
is wall-clock seconds handed in. Counterparts: mesh.vouching carries questions, engine.weights hashes, keep.receipts
stores.
"""

from meshnode.trust.attestation import (
    Attested,
    OperatorVerifier,
    SignedStatement,
    Statement,
    Verifier,
    bound_nonce,
    judge,
    prove,
)
from meshnode.trust.claim import Claim, SignedClaim
from meshnode.trust.dsse import Envelope
from meshnode.trust.manifest import Manifest, WeightFile
from meshnode.trust.receipt import Expected, Receipt, SignedReceipt

__all__ = [
    "Attested",
    "Claim",
    "Envelope",
    "Expected",
    "Manifest",
    "OperatorVerifier",
    "Receipt",
    "SignedClaim",
    "SignedReceipt",
    "SignedStatement",
    "Statement",
    "Verifier",
    "WeightFile",
    "bound_nonce",
    "judge",
    "prove",
]

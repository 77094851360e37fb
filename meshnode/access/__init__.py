"""Who may ask this node, and within which bounds: API keys, kept as hashes, and what each lets its holder do. Pure.

Keys are one node's own; between nodes it is certificates that count (identity). Randomness and wall-clock seconds are
handed in. Counterparts: front.keyring asks for each request, keep.api_keys stores.
"""

from meshnode.access.caller import OPEN, OPERATOR, Caller, Scope
from meshnode.access.key import KEY_BYTES, KEY_PREFIX, credentials, digest_of, key_of
from meshnode.access.record import KeyRecord, Wish
from meshnode.access.ring import MOST_KEYS, Ring

__all__ = [
    "KEY_BYTES",
    "KEY_PREFIX",
    "MOST_KEYS",
    "OPEN",
    "OPERATOR",
    "Caller",
    "KeyRecord",
    "Ring",
    "Scope",
    "Wish",
    "credentials",
    "digest_of",
    "key_of",
]

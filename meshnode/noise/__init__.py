"""The only room that imports noiseprotocol: a handshake that becomes a transport, over any cut of bytes. Pure.

Not for what the payloads say (identity) nor for sockets and time-outs (net).
"""

from meshnode.noise.channel import Channel, Rekeying
from meshnode.noise.handshake import (
    Established,
    Initiator,
    Preface,
    Responder,
    Secrets,
    StaticKey,
    prologue,
)
from meshnode.noise.transport import MAX_PLAINTEXT_BYTES, Transport, Volume

__all__ = [
    "MAX_PLAINTEXT_BYTES",
    "Channel",
    "Established",
    "Initiator",
    "Preface",
    "Rekeying",
    "Responder",
    "Secrets",
    "StaticKey",
    "Transport",
    "Volume",
    "prologue",
]

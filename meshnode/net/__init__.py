"""Links between nodes: dialled, accepted, authenticated, kept alive; requests in both directions on each. I/O.

Drives noise and mux. Not for which peers to link with (mesh) nor for what requests mean (dispatch).
"""

from meshnode.net.dial import dial
from meshnode.net.handshake import Authenticated, Check, initiate, respond
from meshnode.net.link import Link
from meshnode.net.listen import Welcome, open_listeners, serve
from meshnode.net.pipe import Pipe
from meshnode.net.stream import LinkStream
from meshnode.net.traffic import Traffic
from meshnode.noise import Rekeying

__all__ = [
    "Authenticated",
    "Check",
    "Link",
    "LinkStream",
    "Pipe",
    "Rekeying",
    "Traffic",
    "Welcome",
    "dial",
    "initiate",
    "open_listeners",
    "respond",
    "serve",
]

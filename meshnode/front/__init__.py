"""The HTTP door that tools speak to: a guarded server, the API's routes, and the way of one request through them.

Not for who answers (dispatch, behind `Doors`). Counterpart: node.py, which hands the doors in and says when to stop.
"""

from meshnode.front.app import make_app, make_asgi
from meshnode.front.doors import Doors
from meshnode.front.keyring import Keyring
from meshnode.front.server import beyond_loopback, open_listeners, serve

__all__ = ["Doors", "Keyring", "beyond_loopback", "make_app", "make_asgi", "open_listeners", "serve"]

"""What survives a restart: secret files and the layout of a node's home.

Every function here is synchronous and waits for the disk: call them at start-up, or in a thread. Not for what the
bytes mean (identity) nor for configuration (config).
"""

from meshnode.keep.home import Home, Membership, default_home
from meshnode.keep.lock import HomeLock
from meshnode.keep.secrets import create_secret, private_directory, read_secret, remove_secret, write_secret

__all__ = [
    "Home",
    "HomeLock",
    "Membership",
    "create_secret",
    "default_home",
    "private_directory",
    "read_secret",
    "remove_secret",
    "write_secret",
]

"""What a Mux keeps of its two connections and of each stream: facts only, the rules are in mux.py and incoming.py."""

from __future__ import annotations

from meshnode.config.mesh import MeshSection
from meshnode.mux.connection import Connection
from meshnode.mux.events import StreamKey
from meshnode.mux.frames import FrameCutter
from meshnode.mux.outgoing import Outgoing


class Half:
    """One of the two connections: its frames, its h2, and what has arrived but was not yet credited."""

    __slots__ = ("arrived", "connection", "cutter", "mine", "tag")

    def __init__(self, tag: int, mine: bool, section: MeshSection) -> None:
        self.tag = bytes([tag])
        self.mine = mine
        self.connection = Connection(client=mine, section=section)
        self.cutter = FrameCutter(preface=not mine)
        self.arrived = 0


class Stream:
    """One stream. `local_done` and `remote_done`: END_STREAM was handed to h2, came from the peer. `unread`: bytes that
    came and were not read, the first of them at `unread_since`. `padded`: sizes of DATA show only in classes.
    `opened_at`: when the peer opened it; `beats`: signs of life of its answer, the first of them at `beats_since`."""

    __slots__ = (
        "beats", "beats_since", "half", "head_sent", "id", "key", "local_done", "opened_at", "out", "padded",
        "remote_done", "then_reset", "uncredited", "unread", "unread_since",
    )  # fmt: skip

    def __init__(self, key: StreamKey, half: Half) -> None:
        self.key = key
        self.id = key >> 1
        self.half = half
        self.head_sent = half.mine
        self.out = Outgoing()
        self.uncredited = self.unread = 0
        self.unread_since = self.opened_at = self.beats_since = 0.0
        self.beats = 0
        self.then_reset: int | None = None
        self.local_done = self.remote_done = self.padded = False

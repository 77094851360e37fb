"""A mesh to draw: four nodes in a row with one more link, and one that is gone."""

from __future__ import annotations

from typing import Any

ROW: dict[str, Any] = {
    "me": "a",
    "nodes": [
        {"id": "a", "short": "aaaa", "name": "alpha", "state": "me", "path": ["a"]},
        {"id": "b", "short": "bbbb", "name": "bravo", "state": "direct", "path": ["a", "b"], "rtt_ms": 1.2,
         "models": ["llama3:8b"]},
        {"id": "c", "short": "cccc", "name": "charlie", "state": "relay", "path": ["a", "b", "c"], "rtt_ms": 6.2},
        {"id": "d", "short": "dddd", "name": "delta", "state": "relay", "path": ["a", "b", "c", "d"], "draining": True},
        {"id": "e", "short": "eeee", "name": "echo", "state": "gone"},
    ],
    "edges": [
        {"ends": ["a", "b"], "rtt_class_ms": 2, "rtt_ms": 1.2, "said_by": ["a", "b"], "both": True, "linked": True},
        {"ends": ["b", "c"], "rtt_class_ms": 5, "said_by": ["b", "c"], "both": True},
        {"ends": ["c", "d"], "rtt_class_ms": 20, "said_by": ["c", "d"], "both": True},
        {"ends": ["b", "d"], "rtt_class_ms": 50, "said_by": ["b", "d"], "both": True},
        {"ends": ["d", "e"], "rtt_class_ms": 50, "said_by": ["d"], "both": False},
    ],
    "tunnels": [{"peer": "d", "way": ["a", "b", "c", "d"], "opened": True, "streams": 2}],
    "tunnels_relayed": 1,
}  # fmt: skip

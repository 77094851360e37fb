"""`python -m tests.real.strangers HOST PORT COUNT`: connect so often, say nonsense, and print what came back.

A process of its own, so that its work is not the test's. Prints JSON: connections made, bytes heard. Counterpart:
test_hostile.py.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.kit.waiting import PATIENCE_S

SAID = (
    b"",
    b"\x00",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    bytes.fromhex("16030100c2010000be0303") + secrets.token_bytes(190),
    secrets.token_bytes(4096),
    b"\x01\xff\xff" + secrets.token_bytes(2000),
    b"\x01\x00\x30" + secrets.token_bytes(48),
    b"\x02" + secrets.token_bytes(8) + b"\x00\x30" + secrets.token_bytes(48),
    b"\x01\x00\x30" + secrets.token_bytes(20),
)
"""The first is a scan: connect, and leave. The last is half a message, and leaves."""


HANDS = 16
"""At the same time: some dozen wait for a turn to begin a handshake (net.turnstile), the others are sent away."""


def knock(host: str, port: int, said: bytes) -> int:
    """Bytes that came back."""
    heard = 0
    with socket.create_connection((host, port), timeout=PATIENCE_S) as stranger, contextlib.suppress(ConnectionError):
        stranger.sendall(said)
        with contextlib.suppress(OSError):
            # Reset already.
            stranger.shutdown(socket.SHUT_WR)
        while data := stranger.recv(65_536):
            heard += len(data)
    return heard


def main(host: str, port: int, count: int) -> None:
    """Knock `count` times. Strangers have processors of their own: be nice."""
    os.nice(10)
    with ThreadPoolExecutor(HANDS) as hands:
        heard = list(hands.map(lambda said: knock(host, port, said), itertools.islice(itertools.cycle(SAID), count)))
    print(json.dumps({"connections": len(heard), "bytes": sum(heard)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

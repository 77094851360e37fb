"""What nobody on the way, and no stranger, can do."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

MUTANTS = (
    Mutant(
        rule="who does not know the network secret gets not one byte (psk0)",
        file="noise/session.py",
        text="psks=[secrets.psk0, secrets.psk3]",
        instead="psks=[bytes(32), secrets.psk3]",
        tests=("tests/noise/test_handshake.py",),
    ),
    Mutant(
        rule="no two records of one key share a nonce",
        file="noise/transport.py",
        text='_nonce = struct.Struct("<4xQ").pack',
        instead='_nonce = lambda number: struct.pack("<4xQ", number % 256)',
        tests=("tests/noise/test_transport.py", "tests/noise/test_channel.py"),
    ),
    Mutant(
        rule="both ends speak the same versions, or not at all",
        file="noise/handshake.py",
        text='return PROTOCOL + b"\\x00" + bytes(VERSIONS) + hashlib.sha256(mesh).digest()',
        instead='return PROTOCOL + b"\\x00" + hashlib.sha256(mesh).digest()',
        tests=("tests/noise/test_handshake.py",),
    ),
)

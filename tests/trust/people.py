"""Keys of these tests, from fixed seeds, and what they sign."""

from __future__ import annotations

import hashlib

from meshnode.identity import NodeKey
from meshnode.trust import Manifest, Receipt, SignedReceipt, SignedStatement, Statement, WeightFile

NOW = 1_800_000_000
OPERATOR = NodeKey.from_seed(b"o" * 32)
STRANGER = NodeKey.from_seed(b"x" * 32)
SERVER = NodeKey.from_seed(b"s" * 32)
ORIGIN = NodeKey.from_seed(b"g" * 32)
LINK_KEY = b"l" * 32
CHALLENGE = b"c" * 32


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def files(*names: str) -> tuple[WeightFile, ...]:
    return tuple(WeightFile(name, len(name), sha(name.encode()).hex()) for name in names)


def manifest(*names: str) -> Manifest:
    return Manifest(files(*(names or ("model.gguf",))), "llama", NOW)


def statement(by: NodeKey = OPERATOR, node: NodeKey = SERVER, lasts_s: int = 86_400) -> SignedStatement:
    said = Statement(node.public, "disk encrypted, logs off", NOW, NOW + lasts_s)
    return SignedStatement.sign(said, by.public, by.sign)


def receipt(**changes: object) -> Receipt:
    fields: dict[str, object] = {
        "job": "job-1.abc",
        "origin": ORIGIN.public,
        "server": SERVER.public,
        "request": sha(b"request"),
        "answer": sha(b"answer"),
        "model": "llama",
        "at": NOW,
        "digest": sha(b"weights"),
        "quant": "Q4_K_M",
        "tokens": 42,
    }
    return Receipt(**{**fields, **changes})  # type: ignore[arg-type]


def signed(by: NodeKey = SERVER, **changes: object) -> SignedReceipt:
    return SignedReceipt.sign(receipt(**changes), by.sign)

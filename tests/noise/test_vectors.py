"""Published vectors, through noiseprotocol as it is installed and through the second opinion of tests/kit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from noise.backends.default import noise_backend
from noise.connection import Keypair, NoiseConnection
from noise.exceptions import NoiseProtocolNameError

from meshnode.noise.backend import BACKEND
from meshnode.noise.session import SUITE
from tests.kit import noise_spec

FOLDER = Path(__file__).parents[2].parent / "shared" / "vectors" / "noise"
FILES = ("cacophony.json", "snow.json")
KEYPAIRS = {
    "static": Keypair.STATIC,
    "ephemeral": Keypair.EPHEMERAL,
    "remote_static": Keypair.REMOTE_STATIC,
}

Vector = dict[str, Any]


def load() -> list[Vector]:
    if not FOLDER.is_dir():
        return []
    found: list[Vector] = []
    for name in FILES:
        data = json.loads((FOLDER / name).read_text())
        found += data["vectors"] if isinstance(data, dict) else data
    return found


VECTORS = load()
needs_vectors = pytest.mark.skipif(not VECTORS, reason=f"no published vectors in {FOLDER}")


def through_noiseprotocol(vector: Vector, side: str, backend: Any = noise_backend) -> Any:
    connection = NoiseConnection.from_name(vector["protocol_name"].encode(), backend)
    connection.set_prologue(bytes.fromhex(vector[f"{side}_prologue"]))
    if psks := vector.get(f"{side}_psks"):
        connection.set_psks(psks=[bytes.fromhex(psk) for psk in psks])
    for word, keypair in KEYPAIRS.items():
        if key := vector.get(f"{side}_{word}"):
            raw = bytes.fromhex(key)
            if keypair is Keypair.REMOTE_STATIC:
                connection.set_keypair_from_public_bytes(keypair, raw)
            else:
                connection.set_keypair_from_private_bytes(keypair, raw)
    if side == "init":
        connection.set_as_initiator()
    else:
        connection.set_as_responder()
    connection.start_handshake()
    return connection


@needs_vectors
@pytest.mark.filterwarnings("ignore:One of ephemeral keypairs is already set")
@pytest.mark.parametrize("vector", VECTORS or [{"protocol_name": "absent"}], ids=lambda vector: vector["protocol_name"])
def test_noiseprotocol_reproduces_a_published_vector(vector: Vector) -> None:
    reproduce(vector, noise_backend)


@needs_vectors
@pytest.mark.filterwarnings("ignore:One of ephemeral keypairs is already set")
def test_our_backend_reproduces_the_vectors_of_our_suite() -> None:
    ours = [vector for vector in VECTORS if vector["protocol_name"] == SUITE.decode()]
    for vector in ours:
        reproduce(vector, BACKEND)
    assert ours


@pytest.mark.parametrize(
    "name", ["Noise_XX_25519_AESGCM_SHA256", "Noise_XX_448_ChaChaPoly_SHA256", "Noise_XX_25519_ChaChaPoly_SHA512"]
)
def test_our_backend_knows_no_other_suite(name: str) -> None:
    with pytest.raises(NoiseProtocolNameError):
        NoiseConnection.from_name(name, BACKEND)


def reproduce(vector: Vector, backend: Any) -> None:
    writer, reader = through_noiseprotocol(vector, "init", backend), through_noiseprotocol(vector, "resp", backend)
    for message in vector["messages"]:
        payload, ciphertext = bytes.fromhex(message["payload"]), bytes.fromhex(message["ciphertext"])
        if writer.handshake_finished:
            assert writer.encrypt(payload) == ciphertext
            assert reader.decrypt(ciphertext) == payload
        else:
            assert writer.write_message(payload) == ciphertext
            assert reader.read_message(ciphertext) == payload
        writer, reader = reader, writer
    if expected := vector.get("handshake_hash"):
        assert writer.get_handshake_hash() == bytes.fromhex(expected)


@needs_vectors
def test_our_suite_is_among_the_vectors() -> None:
    assert SUITE.decode() in {vector["protocol_name"] for vector in VECTORS}


@needs_vectors
def test_the_second_opinion_reproduces_the_vector_of_our_suite() -> None:
    (vector,) = [vector for vector in VECTORS if vector["protocol_name"] == SUITE.decode()]
    sides = [
        noise_spec.Party(
            initiator=side == "init",
            prologue=bytes.fromhex(vector[f"{side}_prologue"]),
            psks=[bytes.fromhex(psk) for psk in vector[f"{side}_psks"]],
            s=X25519PrivateKey.from_private_bytes(bytes.fromhex(vector[f"{side}_static"])),
            e=X25519PrivateKey.from_private_bytes(bytes.fromhex(vector[f"{side}_ephemeral"])),
        )
        for side in ("init", "resp")
    ]
    for number, message in enumerate(vector["messages"]):
        writer, reader = sides[number % 2], sides[1 - number % 2]
        payload, ciphertext = bytes.fromhex(message["payload"]), bytes.fromhex(message["ciphertext"])
        if writer.sending is not None and reader.receiving is not None:
            assert writer.sending.encrypt(b"", payload) == ciphertext
            assert reader.receiving.decrypt(b"", ciphertext) == payload
        else:
            assert writer.write(payload) == ciphertext
            assert reader.read(ciphertext) == payload

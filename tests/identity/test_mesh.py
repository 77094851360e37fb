from __future__ import annotations

from meshnode.identity import Mesh
from tests.identity.people import MESH


def test_members_of_one_mesh_derive_the_same_keys() -> None:
    assert MESH.psks() == Mesh(MESH.id, "another name", MESH.secret).psks()


def test_another_secret_is_another_mesh() -> None:
    assert MESH.psks() != Mesh(MESH.id, "home", b"t" * 32).psks()


def test_the_secret_is_not_shown() -> None:
    assert repr(MESH.secret) not in repr(MESH)

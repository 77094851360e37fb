"""The embedded model's file, fetched once for this machine and shared by every test."""

from __future__ import annotations

from tests.engine.conftest import model_folder

__all__ = ["model_folder"]

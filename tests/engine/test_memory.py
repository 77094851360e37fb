"""The machine's memory, with and without a graphics driver."""

from __future__ import annotations

import types
from typing import Any

import pynvml
import pytest

from meshnode.engine.memory import memory


def test_system_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    found = memory()
    assert 0 < found.free_memory_bytes < found.hardware.memory_bytes


def test_a_machine_without_a_driver_is_an_ordinary_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    found = memory()
    assert (found.hardware.gpus, found.hardware.gpu, found.free_vram_bytes) == (0, "", 0)


def with_cards(monkeypatch: pytest.MonkeyPatch, info: Any) -> None:
    for name, value in {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda handle: f"Card {handle}",
        "nvmlDeviceGetMemoryInfo": info,
    }.items():
        monkeypatch.setattr(pynvml, name, value)


def test_the_memory_of_all_cards_is_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with_cards(monkeypatch, lambda handle: types.SimpleNamespace(total=8 << 30, free=3 << 30))
    found = memory()
    assert (found.hardware.gpu, found.hardware.gpus) == ("Card 0", 2)
    assert (found.hardware.vram_bytes, found.free_vram_bytes) == (16 << 30, 6 << 30)


def test_cards_that_do_not_say_their_memory_count_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(handle: int) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    with_cards(monkeypatch, unsupported)
    assert memory().hardware.vram_bytes == 0

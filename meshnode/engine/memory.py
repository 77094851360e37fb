"""What memory this machine has and has free: graphics cards by NVML, the rest by psutil.

The one importer of `pynvml`. A machine without an NVIDIA driver is an ordinary machine: no error, no log line. Not for
deciding what fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psutil

from meshnode.model.advert import Hardware


@dataclass(frozen=True, slots=True)
class Memory:
    """The machine as adverts tell it, and what is free now, in bytes."""

    hardware: Hardware
    free_vram_bytes: int
    free_memory_bytes: int


def memory() -> Memory:
    """Look now. Takes about a millisecond without a driver, some tens with one."""
    system = psutil.virtual_memory()
    names, total, free = _cards()
    hardware = Hardware(
        gpu=names[0][:128] if names else "", gpus=len(names), vram_bytes=total, memory_bytes=int(system.total)
    )
    return Memory(hardware, free, int(system.available))


def _cards() -> tuple[list[str], int, int]:
    """Names of the cards, and the sums of their memory and free memory in bytes."""
    # Imported late: on most machines there is nothing to ask, and a node should be small.
    import pynvml

    nvml: Any = pynvml
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return [], 0, 0
    try:
        names, total, free = [], 0, 0
        for index in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            name = nvml.nvmlDeviceGetName(handle)
            names.append(name.decode() if isinstance(name, bytes) else str(name))
            info = nvml.nvmlDeviceGetMemoryInfo(handle)
            total, free = total + int(info.total), free + int(info.free)
        return names, total, free
    except nvml.NVMLError:
        # Cards with memory shared with the system (Jetson, Grace) answer "not supported".
        return [], 0, 0
    finally:
        nvml.nvmlShutdown()

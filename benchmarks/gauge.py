"""What the kernel says of a process: CPU time used and memory resident. Linux only (proc(5)).

Threads are counted, children are not. Not for wall times, which the load generator takes.
"""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

SAMPLE_S = 0.25
"""Between looks at memory under load."""


def cpu_ticks(stat: str) -> int:
    """utime + stime of one /proc/PID/stat line. The command's name, in parentheses, may hold anything."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def resident_kb(status: str) -> int:
    """VmRSS of /proc/PID/status in KiB; 0 for a process that has none."""
    lines = (line.split() for line in status.splitlines() if line.startswith("VmRSS:"))
    return next((int(words[1]) for words in lines), 0)


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used, user and system, all its threads."""
    return cpu_ticks(Path(f"/proc/{pid}/stat").read_text()) / os.sysconf("SC_CLK_TCK")


def cpu_ns(pid: int) -> int:
    """The same in nanoseconds, as the scheduler counts them: for short loads."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def resident_mb(pid: int) -> float:
    """Resident memory in MB (10^6 bytes)."""
    return resident_kb(Path(f"/proc/{pid}/status").read_text()) * 1024 / 1e6


@contextmanager
def peak_resident(pids: Mapping[str, int]) -> Iterator[dict[str, float]]:
    """Fills the dict it yields with the most memory (MB) each process was seen to hold while the block ran."""
    peaks: dict[str, float] = dict.fromkeys(pids, 0.0)
    over = threading.Event()

    def look() -> None:
        while not over.wait(SAMPLE_S):
            for name, pid in pids.items():
                try:
                    peaks[name] = max(peaks[name], resident_mb(pid))
                except OSError:  # the process ended; whoever runs the load will find out
                    return

    watcher = threading.Thread(target=look, name="memory")
    watcher.start()
    try:
        yield peaks
    finally:
        over.set()
        watcher.join()


def machine(cores: Iterable[int]) -> dict[str, str | int]:
    """Facts that figures depend on; no names and no paths."""
    models = (line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    return {
        "architecture": platform.machine(),
        "cores": len(set(cores)),
        "processor": next(models, "model name: unknown").partition(":")[2].strip(),
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
    }

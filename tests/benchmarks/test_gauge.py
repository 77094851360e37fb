"""Figures of /proc are read from their right columns."""

from __future__ import annotations

import os

import pytest

from benchmarks import gauge

STAT = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 200 0 0 123 45 900 800 20 0 3 0 5000 1000000 300\n"


def test_cpu_time_is_user_and_system_without_children() -> None:
    assert gauge.cpu_ticks(STAT) == 123 + 45


def test_resident_memory_is_vmrss() -> None:
    assert gauge.resident_kb("VmPeak:\t  900 kB\nVmRSS:\t  512 kB\nRssAnon:\t 100 kB\n") == 512


def test_a_process_without_memory_has_none() -> None:
    assert gauge.resident_kb("Name:\tkthreadd\n") == 0


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs Linux's /proc")
def test_the_formats_are_those_of_this_kernel() -> None:
    used = gauge.cpu_s(os.getpid())
    ours = os.times()
    assert 0 < used <= ours.user + ours.system + 1
    assert 5 < gauge.resident_mb(os.getpid()) < 10_000


@pytest.mark.skipif(not os.path.exists("/proc/cpuinfo"), reason="needs Linux's /proc")
def test_machine_facts_name_no_machine() -> None:
    facts = gauge.machine({0, 1})
    assert facts["cores"] == 2
    assert os.uname().nodename not in {str(value) for value in facts.values()}

"""Other people's proxies as targets, before the same engine: LiteLLM, installed into an environment of its own.

One worker each, defaults otherwise: one core against one core. A further peer is one more function of this form.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.build import BUILD, BenchError
from benchmarks.child import free_port, running
from benchmarks.targets import Target, first_answer

LITELLM_START_S = 120.0

_LITELLM_CONFIG = """\
model_list:
  - model_name: bench
    litellm_params:
      model: openai/bench
      api_base: http://127.0.0.1:{port}/v1
      api_key: none
general_settings:
  # Without this it wants a key and would check it; the node it is compared with checks none on loopback either.
  dangerously_permit_weak_or_unset_master_key: true
"""


@contextmanager
def litellm(engine_port: int, directory: Path) -> Iterator[Target]:
    """LiteLLM's proxy with one worker, no keys, no database."""
    bin_directory = _installed("litellm", "litellm[proxy]")
    config = directory / "litellm.yaml"
    config.write_text(_LITELLM_CONFIG.format(port=engine_port))
    port = free_port()
    command = [str(bin_directory / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--num_workers", "1", "--telemetry", "False"]
    environment = {
        **os.environ,
        "PATH": f"{bin_directory}{os.pathsep}{os.environ.get('PATH', '')}",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it asks the network for prices at start
        "LITELLM_LOG": "ERROR",
    }
    began = time.monotonic()
    with running("litellm", command, directory, environment) as child:
        first_answer(port, child, LITELLM_START_S)
        yield Target("litellm", "LiteLLM", port, {"litellm": child}, time.monotonic() - began)


def litellm_version() -> str:
    """The installed version, or "" where there is none."""
    python = BUILD / "litellm" / "bin" / "python"
    code = "import importlib.metadata as m; print(m.version('litellm'))"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _installed(name: str, requirement: str) -> Path:
    """The bin directory of an environment that has the requirement; made when absent."""
    home = BUILD / name
    mark = home / ".installed"
    if not mark.exists():
        print(f"installing {requirement} into benchmarks/build/{name}", file=sys.stderr)
        _quietly([sys.executable, "-m", "venv", str(home)])
        _quietly([str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", requirement])
        mark.touch()
    return home / "bin"


def _quietly(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{command[-1]} could not be installed:\n{done.stderr[-2000:]}")

"""The embedded llama.cpp server, in a process of its own: a crash of the engine is not a crash of the node.

Started as a script (`python -P embedded_child.py …`), so that nothing of the node is loaded twice. Says where it
listens as one JSON line and leaves when standard input ends, which it does when the node is gone however it went.
Counterpart: embedded.py.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

USEFUL_THREADS = 8
"""A model of 135M parameters gains nothing from more cores, and the machine has other work."""


def main() -> None:
    """Serve until standard input ends. Exits with 3 when the software is not installed, 1 when it does not start."""
    asked = _arguments()
    try:
        import xllamacpp

        llama: Any = xllamacpp
    except ImportError as error:
        print(f"xllamacpp: {error}", file=sys.stderr)
        sys.exit(3)
    params = llama.CommonParams()
    params.model.path = asked.model
    params.model_alias = {asked.alias}
    params.hostnames, params.port = ["127.0.0.1"], 0
    # llama-server divides the context among its slots; what is offered is what one request really gets.
    params.n_parallel, params.n_ctx = asked.slots, asked.context * asked.slots
    params.cont_batching = True
    params.cpuparams.n_threads = asked.threads or max(1, min(USEFUL_THREADS, _cores() - 1))
    # Chat and embeddings from one process: measured, the one does not slow the other.
    params.embedding = True
    params.pooling_type = llama.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    # No page of a browser may reach this port, and no prompt is kept in memory beyond the slots (it would be 8 GiB).
    params.ui, params.cors_origins, params.cache_ram_mib = False, "http://127.0.0.1", 0
    # Warnings and errors: the node keeps the last lines to say why a start failed.
    params.verbosity = 2
    server = llama.Server(params)
    print(json.dumps({"url": server.listening_address}), flush=True)
    while sys.stdin.buffer.read(4096):
        pass
    # The server's own threads would hold an ordinary exit until open answers end.
    os._exit(0)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--alias", required=True, help="the name it is served under")
    parser.add_argument("--context", type=int, default=4096, help="tokens for each request")
    parser.add_argument("--slots", type=int, default=4, help="requests at once")
    parser.add_argument("--threads", type=int, default=0, help="0: one for each core but one")
    return parser.parse_args()


if __name__ == "__main__":
    main()

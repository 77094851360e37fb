"""Section `engine`: which engines this node fronts and how it speaks to them."""

from __future__ import annotations

from dataclasses import dataclass

from meshnode.config.types import Bytes, Positive, Seconds, Whole


@dataclass(frozen=True, slots=True)
class EngineSection:
    # "auto" probes default ports and falls back to the embedded engine, "embedded" runs it in any case, "none" leaves
    # only the configured URLs; several may be given.
    engines: tuple[str, ...] = ("auto",)
    # OpenAI-compatible servers by URL, from the configuration only (SSRF, reliability.md T22).
    urls: tuple[str, ...] = ()
    # Between probes of default ports and known engines.
    probe_s: Seconds = 10.0
    # A local server answers a probe in milliseconds; a busy one in a second.
    probe_timeout_s: Seconds = 2.0
    # Connect to an engine.
    connect_timeout_s: Seconds = 2.0
    # Idle kept-alive connections per engine.
    idle_connections: Whole = 256
    # Requests at once to an engine that does not say how many it runs.
    default_slots: Positive = 4
    # The same for vLLM, which batches continuously: 256 is its own bound, a quarter keeps each answer quick.
    batching_slots: Positive = 64
    # The context Ollama gives a model that it loads for a request without `num_ctx` (OLLAMA_CONTEXT_LENGTH).
    ollama_context: Positive = 4096
    # Waiting requests per engine before 429: twice the slots, at least this many.
    queue_min: Whole = 8
    # Requests whose client left while their model loads and that are kept, so that the load is not undone, and how long
    # each: 40 GB from a hard disk load within five minutes. Each holds its slot, so few.
    kept_loads: Whole = 4
    kept_load_s: Seconds = 300.0
    # Without a stream's first token for so many times what it usually takes, and at least so long, an engine is mute:
    # who waits for it is told, and may ask elsewhere besides. Usual times are averages, of cached prompts too; so long
    # no engine that answers within moments stops for housekeeping.
    mute_factor: Positive = 4
    mute_s: Seconds = 1.2
    # Largest answer head and largest unstreamed answer read.
    head_limit_bytes: Bytes = 64 * 1024
    answer_limit_bytes: Bytes = 256 * 1024 * 1024
    # The embedded model: its context per request, how many at once, and threads. 0: all cores but one: with
    # one thread each, ggml's spinning barriers fell from 92 to 1 token/s as soon as anything else wanted a core.
    embedded_context: Positive = 4096
    embedded_slots: Positive = 4
    embedded_threads: Whole = 0
    # Whether the embedded engine may fetch its model (93 MB, once).
    download: bool = True
    # Restart back-off of a crashed child: from, to.
    restart_min_s: Seconds = 0.5
    restart_max_s: Seconds = 30.0
    # From spawn to healthy; a large model on a slow disk needs a minute.
    start_timeout_s: Seconds = 120.0

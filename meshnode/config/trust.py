"""Section `trust`: whose word counts for weights and for whole nodes, how long receipts are kept. protocol.md §7."""

from __future__ import annotations

from dataclasses import dataclass

from meshnode.config.types import Positive, Seconds


@dataclass(frozen=True, slots=True)
class TrustSection:
    # Public keys whose weight manifests are believed (`meshnode attest key` and node ids print them); a node's own key
    # counts for its own files. Empty: nobody's, and no manifest is asked for.
    signers: tuple[str, ...] = ()
    # Public keys of operators whose statements attest nodes. Empty: none, and nobody is challenged.
    operators: tuple[str, ...] = ()
    # Verifiers of evidence in use: the one that is shipped, and names of the entry-point group `meshnode.verifiers`
    # (a TPM quote, an NVIDIA report); what is installed and not named here is not loaded.
    verifiers: tuple[str, ...] = ("operator",)
    # Models whose files this node cannot find by itself, as MODEL=PATH of a file or a folder with a signed manifest
    # beside or in it; engines that say where their file is need none.
    weights: tuple[str, ...] = ()
    # Between looks whether files of signed weights have changed: a stat each, and they are hashed again if so.
    weights_look_s: Seconds = 30.0
    # Whether answers are signed for and receipts kept: 50 µs an answer and half a kilobyte on disk.
    receipts: bool = True
    # A week is time enough to doubt an answer.
    receipts_s: Seconds = 7 * 86_400.0
    # Of more, the oldest go: 100,000 have 60 MB.
    receipts_kept: Positive = 100_000

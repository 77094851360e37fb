"""`python -m tests.fuzz.seed`: write every target's seeds into the corpus, by our own encoders.

Files of other names there are inputs that once broke a target: those stay.
"""

from __future__ import annotations

from pathlib import Path

from tests.fuzz import targets

CORPUS = Path(__file__).parent / "corpus"


def write() -> int:
    """How many files were written."""
    count = 0
    for name in targets.names():
        folder = CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        for seed, data in targets.load(name).seeds().items():
            (folder / seed).write_bytes(data)
            count += 1
    return count


if __name__ == "__main__":
    print(f"{write()} seeds written")

"""One rule of the product and how it is broken: text in one file, and what stands there instead.

Not for running tests (runner.py) nor for which rules (catalogue/, a module for each room).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PACKAGE = "meshnode"


class Rotten(ValueError):
    """The text is not in its file exactly once: the product has moved on, and the mutant must follow."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """`rule` says what holds, in words; `file` lies under meshnode/. `text` occurs there exactly once, and a part of a
    line will do. `tests` are files that must notice, the likeliest first."""

    rule: str
    file: str
    text: str
    instead: str
    tests: tuple[str, ...]

    def source(self, root: Path) -> Path:
        """The file to break, in the copy of the tree at `root`."""
        return root / PACKAGE / self.file

    def broken(self, root: Path) -> str:
        """What the file says with the rule broken; changes nothing. Raises Rotten."""
        found = self.source(root).read_text()
        if (times := found.count(self.text)) != 1:
            raise Rotten(f"{PACKAGE}/{self.file} has {times} times, not once: {self.text!r}")
        return found.replace(self.text, self.instead)

    def apply(self, root: Path) -> None:
        """Break the rule in the copy of the tree at `root`. Raises Rotten."""
        source = self.source(root)
        source.write_text(self.broken(root))
        # A compiled module counts as fresh by its source's second and size, and both may be the same.
        for compiled in source.parent.glob(f"__pycache__/{source.stem}.*.pyc"):
            compiled.unlink()

"""The process that fuzzes one target: `python -m tests.fuzz.one TARGET [libFuzzer's arguments]`.

Needs atheris (`make fuzz` installs it). Counterpart: __main__.py, which starts these and reads what they print.
"""

from __future__ import annotations

import sys

import atheris

INSTRUMENTED = ["meshnode", "h2", "hpack", "hyperframe", "noise", "h11"]
"""What is ours, and the libraries in plain Python that read a stranger's bytes for us."""


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    name, *rest = sys.argv[1:]
    with atheris.instrument_imports(include=INSTRUMENTED):
        # Imported here, since only what is imported inside is instrumented.
        from tests.fuzz import targets

        target = targets.load(name)
    atheris.Setup([sys.argv[0], *rest], target.one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

"""An invite as a QR code for a camera, where the terminal is wide enough for one. The only user of segno.

Not for what is in it (membership.py).
"""

from __future__ import annotations

import io
import shutil
import sys

QUIET = 2
"""Light modules around the code. ISO/IEC 18004 wants 4; scanners are content with 2, and narrow terminals with less
are not."""

_BLACK_ON_WHITE = "\x1b[97;40m"
"""Light modules are drawn, dark ones left out: with both colours said, a light terminal shows the same code."""


def drawn(text: str) -> str:
    """The lines of a QR code of `text`, or one line that says why there is none."""
    import segno

    code = segno.make_qr(text, error="l")
    width, _ = code.symbol_size(border=QUIET)
    columns = shutil.get_terminal_size().columns
    if width > columns:
        return f"(a QR code needs a terminal of {width} columns; this one has {columns})\n"
    out = io.StringIO()
    code.terminal(out, border=QUIET, compact=True)
    try:
        out.getvalue().encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return "(this terminal cannot show a QR code)\n"
    return "".join(f"{_BLACK_ON_WHITE}{line}\x1b[0m\n" for line in out.getvalue().splitlines())

"""Runs a command and ends it when standard input ends: a stand-in for children that do not watch their parent.

Started as a script (`python -P guard.py command…`), so it imports nothing of this package. On Windows, the command
alone is ended, not what it started. Counterpart: process.py, which holds the other end of standard input.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """TERM twice, then KILL, to this process group: the order and waits of process.py."""
    if not hasattr(os, "killpg"):
        child.terminate()
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for wait_s in (0.5, 2.0):
        os.killpg(0, signal.SIGTERM)
        try:
            child.wait(wait_s)
            break
        except subprocess.TimeoutExpired:
            continue
    time.sleep(0.05)
    os.killpg(0, signal.SIGKILL)


def main() -> int:
    """Run the command of the arguments; its exit status is ours."""
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)  # noqa: S603 - the command is our caller's own
    ended = threading.Event()

    def wait_for_child() -> None:
        child.wait()
        ended.set()
        os._exit(child.returncode if child.returncode >= 0 else 128 - child.returncode)

    threading.Thread(target=wait_for_child, daemon=True).start()
    while sys.stdin.buffer.read(4096):
        pass
    if ended.is_set():
        return 0
    # Ignored from here, so that the signal to the group reaches the command and not us.
    if threading.current_thread() is threading.main_thread():
        _end_group(child)
    return 0


if __name__ == "__main__":
    sys.exit(main())

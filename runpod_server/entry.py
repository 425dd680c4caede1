"""What `sesame-server` starts: while it is loaded, Ctrl-C leaves no traceback."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

_INTERRUPTED = 130


def main() -> None:
    """Load the command line, which takes a second, and run it. While it is loaded, Ctrl-C ends the process at
    once: an exception in the middle of an import may be taken for that import's failure."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # a process that ignores Ctrl-C goes on ignoring it
        signal.signal(signal.SIGINT, _leave)
    try:
        from runpod_server.cli import main as command_line
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        command_line()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(_INTERRUPTED)

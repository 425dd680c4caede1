"""What `voice-agent` and `python -m backend` start: while it is loaded, Ctrl-C leaves no traceback."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_INTERRUPTED = 130


def main() -> None:
    """Load the command line, which takes a second, and run it."""
    with _ended_by_ctrl_c():
        from backend.cli import main as command_line
    try:
        command_line()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def serve() -> None:
    """`python -m backend`: load the backend and serve."""
    with _ended_by_ctrl_c():
        _read_arguments()
        from backend.run import main as run_backend
    try:
        sys.exit(run_backend())
    except KeyboardInterrupt:  # before it serves; afterwards it ends in order
        sys.exit(_INTERRUPTED)


def _read_arguments() -> None:
    from backend import __version__

    parser = argparse.ArgumentParser(
        prog="python -m backend",
        description="The call backend: serves until Ctrl-C. Settings: the environment and .env "
        "(docs/reference/settings.md). The same as `voice-agent serve`; `voice-agent -h` has all commands.",
    )
    parser.add_argument("--version", action="version", version=f"voice-agent {__version__}")
    parser.parse_args()


@contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """Within, Ctrl-C ends the process at once: nothing is begun yet, and an exception in the middle of an
    import may be taken for that import's failure. A process that ignores Ctrl-C goes on ignoring it."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    finally:
        signal.signal(signal.SIGINT, before)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(_INTERRUPTED)

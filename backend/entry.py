"""What `voice-agent` starts: the command line, loaded so that Ctrl-C leaves no trace of Python even then."""

from __future__ import annotations

import sys

_INTERRUPTED = 130


def main() -> None:
    """Load the command line, which takes a second, and run it."""
    try:
        from backend.cli import main as command_line
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    command_line()

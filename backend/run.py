"""Runs the backend in this process: settings, logging, event loop, and a sentence when it cannot start."""

from __future__ import annotations

import asyncio
import logging
import sys

from backend.errors import BackendError
from backend.settings import load_settings

_QUIET = "httpx httpcore httpx2 httpcore2 openai uvicorn uvicorn.error telnyx websockets".split()


def main() -> int:
    """Serve until Ctrl-C. 0, or 1 with one sentence on standard error."""
    try:
        settings = load_settings()
        logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)-7s %(message)s")
        for name in _QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)
        import uvloop

        from backend.app import serve  # imported after the settings, so that their errors come at once

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings))
    except BackendError as error:
        print(f"voice-agent: {error}", file=sys.stderr)
        return 1
    return 0

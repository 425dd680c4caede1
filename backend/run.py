"""Runs the backend in this process: settings, logging, event loop, and a sentence when it cannot start."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Mapping
from typing import Any

from backend.core.agent_secrets import redacted
from backend.errors import BackendError
from backend.settings import load_settings, secrets_of, unknown_in_env_file

log = logging.getLogger(__name__)

_FORMAT = "%(asctime)s %(levelname)-7s %(message)s"
# What they write at DEBUG are requests, headers and bodies.
_QUIET = "httpx httpcore httpx2 httpcore2 openai uvicorn uvicorn.error telnyx websockets".split()


def main(overrides: Mapping[str, Any] | None = None) -> int:
    """Serve until Ctrl-C; `overrides` win over the environment. 0, or 1 with a sentence on standard error."""
    try:
        settings = load_settings(**(overrides or {}))
        handler = logging.StreamHandler()
        handler.setFormatter(WithoutSecrets(_FORMAT, secrets_of(settings)))
        logging.basicConfig(level=settings.log_level, handlers=[handler])
        for name in _QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)
        for sentence in unknown_in_env_file():
            log.warning(sentence)
        import uvloop

        from backend.app import serve  # imported after the settings, so that their errors come at once

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings))
    except BackendError as error:
        print(f"voice-agent: {error}", file=sys.stderr)
        return 1
    return 0


class WithoutSecrets(logging.Formatter):
    """Whatever is logged, by whomever, and its traceback: without these values. The last line of defence."""

    def __init__(self, format_: str, secrets: Mapping[str, str]) -> None:
        super().__init__(format_)
        self._secrets = dict(secrets)

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record), self._secrets)

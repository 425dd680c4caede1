"""What the backend's own code warns of in this process, told in its place instead of logged beside."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from backend.core.agent_secrets import redacted
from backend.simulator.backend_log import once


class _Teller(logging.Handler):
    def __init__(self, tell: Callable[[str], None], secrets: Mapping[str, str]) -> None:
        super().__init__(logging.WARNING)
        self._tell, self._secrets = tell, secrets
        self._told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Tell it, once."""
        (message,) = once([redacted(record.getMessage(), self._secrets)])
        if message not in self._told:
            self._told.add(message)
            self._tell(message)


@contextmanager
def warnings_told(tell: Callable[[str], None], secrets: Mapping[str, str]) -> Iterator[None]:
    """Within, each warning is told once, without any of the secrets; nothing is logged elsewhere."""
    logger, handler = logging.getLogger("backend"), _Teller(tell, secrets)
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated

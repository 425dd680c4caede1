"""Sends a call's data to somebody's address. Nobody waits for the answer; what fails is logged.

Knows nothing of calls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx

log = logging.getLogger(__name__)

_TIMEOUT_S = 5.0


class WebhookSender:
    """POSTs JSON. `http` stays open."""

    def __init__(self, http: httpx.AsyncClient, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._http, self._timeout_s = http, timeout_s

    async def send(self, url: str, data: Mapping[str, object]) -> None:
        """Once, within `timeout_s`. Raises nothing: the log says what became of it."""
        host = urlsplit(url).hostname  # the rest of an address may be a secret
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._http.stream("POST", url, json=data) as response,
            ):
                if response.status_code >= 400:
                    log.warning("webhook at %s refused: HTTP %d", host, response.status_code)
        except TimeoutError:
            log.warning("webhook at %s: no answer within %g s", host, self._timeout_s)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            log.warning("webhook at %s cannot be reached: %s", host, type(error).__name__)

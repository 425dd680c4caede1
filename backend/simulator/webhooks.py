"""Telnyx's webhooks: signed, sent concurrently, sent again with growing pauses until answered 2xx in time.

Knows how to deliver an event, not when one happens. Delivery is at least once and in any order, as Telnyx's.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import random
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
from nacl.signing import SigningKey

log = logging.getLogger(__name__)

_MAX_UNDELIVERED = 2_000


@dataclass(frozen=True, slots=True)
class WebhookPolicy:
    """How events are delivered, and which faults are played."""

    answer_within_s: float = 2.0
    attempts: int = 6
    first_pause_s: float = 0.5  # doubled after every attempt
    duplicate: bool = False  # every event is delivered twice
    reorder: bool = False  # every second event is held back, so that a later one overtakes it
    hold_back_s: float = 0.3


class WebhookSender:
    """Signs and delivers events, each in a task that this object owns until `close`."""

    def __init__(self, policy: WebhookPolicy, *, seed: int = 0) -> None:
        self._policy = policy
        self._key = SigningKey.generate()
        self._client = httpx.AsyncClient(timeout=policy.answer_within_s, trust_env=False)
        self._random = random.Random(seed)
        self._undelivered: set[asyncio.Task[None]] = set()

    @property
    def public_key(self) -> str:
        """Base64 of the 32 bytes, as the Telnyx portal shows it."""
        return base64.b64encode(bytes(self._key.verify_key)).decode("ascii")

    def send(self, url: str, event_type: str, payload: Mapping[str, Any]) -> str:
        """Begin to deliver an event; returns its id at once."""
        event_id = str(uuid.uuid4())
        if len(self._undelivered) >= _MAX_UNDELIVERED:
            log.error("webhook %s dropped: %d are undelivered already", event_type, _MAX_UNDELIVERED)
            return event_id
        data = {
            "record_type": "event",
            "event_type": event_type,
            "id": event_id,
            "occurred_at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "payload": dict(payload),
        }
        hold_back = self._policy.reorder and self._random.random() < 0.5
        for _ in range(2 if self._policy.duplicate else 1):
            task = asyncio.create_task(self._deliver(url, data, hold_back), name=f"webhook {event_type}")
            self._undelivered.add(task)
            task.add_done_callback(self._undelivered.discard)
        return event_id

    async def close(self, *, grace_s: float = 0.0) -> None:
        """Give what is undelivered `grace_s`, then drop it."""
        tasks = tuple(self._undelivered)
        if tasks and grace_s:
            await asyncio.wait(tasks, timeout=grace_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.aclose()

    async def _deliver(self, url: str, data: dict[str, Any], hold_back: bool) -> None:
        policy = self._policy
        if hold_back:
            await asyncio.sleep(policy.hold_back_s)
        pause_s = policy.first_pause_s
        for attempt in range(1, policy.attempts + 1):
            problem = await self._attempt(url, data, attempt)
            if problem is None:
                return
            log.warning("webhook %s, attempt %d, to %s: %s", data["event_type"], attempt, url, problem)
            if attempt < policy.attempts:
                await asyncio.sleep(pause_s)
                pause_s *= 2
        log.error("webhook %s given up after %d attempts", data["event_type"], policy.attempts)

    async def _attempt(self, url: str, data: dict[str, Any], attempt: int) -> str | None:
        """None when it was acknowledged, else why not."""
        body = orjson.dumps({"data": data, "meta": {"attempt": attempt, "delivered_to": url}})
        try:
            async with asyncio.timeout(self._policy.answer_within_s):
                response = await self._client.post(url, content=body, headers=self._headers(body))
        except TimeoutError:
            return f"no answer within {self._policy.answer_within_s:g} s"
        except httpx.HTTPError as error:
            return f"{type(error).__name__}: {error}"
        return None if response.is_success else f"answered {response.status_code}"

    def _headers(self, body: bytes) -> dict[str, str]:
        timestamp = str(int(time.time()))
        signature = self._key.sign(timestamp.encode() + b"|" + body).signature
        return {
            "content-type": "application/json",
            "telnyx-signature-ed25519": base64.b64encode(signature).decode("ascii"),
            "telnyx-timestamp": timestamp,
        }

"""What ElevenLabs says of an account without making speech: credit left, and whether it knows a voice.

Costs no credit. What its refusals mean stands in core/elevenlabs.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from backend.core.agent_secrets import without_key
from backend.core.elevenlabs import refusal
from backend.errors import SpeechError, SpeechFailure
from backend.tts.http import failure, make_client

_LOW = 0.05  # of the credit: an operator should know


class ElevenLabsAccount:
    """One account. `http` is used when given, and stays open."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str,
        http: httpx.AsyncClient | None = None,
        timeout_s: float = 8.0,
    ) -> None:
        self._base_url, self._key = base_url.rstrip("/"), api_key
        self._headers = {"xi-api-key": api_key}
        self._http, self._given = http or make_client(), http is not None
        self._timeout_s = timeout_s

    async def look(self) -> str:
        """How much credit is left, in words. Raises SpeechError: unauthorized, quota, unreachable, …"""
        told = await self._get("/v1/user/subscription")
        if told is None:
            return "the key is accepted; it may not look at its credit"
        used, limit = told.get("character_count"), told.get("character_limit")
        if not isinstance(used, int) or not isinstance(limit, int):
            return "the key is accepted"
        left = max(0, limit - used)
        if _may_exceed(told):
            return f"{left} of {limit} credits left, then billed by use"
        if not left:
            raise self._error("quota", f"all {limit} credits are used up")
        low = "; few are left: buy more" if left < _LOW * limit else ""
        return f"{left} of {limit} credits left{low}"

    async def look_up(self, voice_id: str) -> None:
        """Returns if the account knows the voice, or may not say. Raises SpeechError: unknown_voice, …"""
        await self._get(f"/v1/voices/{quote(voice_id, safe='')}")

    async def aclose(self) -> None:
        """Close the connections, unless they were given."""
        if not self._given:
            await self._http.aclose()

    async def _get(self, path: str) -> Mapping[str, Any] | None:
        """What is told there; None where the key may not ask. Raises SpeechError."""
        url = f"{self._base_url}{path}"
        try:
            reply = await self._http.get(url, headers=self._headers, timeout=self._timeout_s)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._error(*failure(error)) from error
        body = _json(reply)
        if reply.status_code >= 400:
            if "missing_permission" in reply.text:
                # A key for speech alone: that it is one was seen.
                return None
            raise self._error(*refusal(reply.status_code, body))
        if not isinstance(body, Mapping):
            raise self._error(
                "unreachable", "what answers there is not ElevenLabs: check ELEVENLABS_BASE_URL"
            )
        return body

    def _error(self, reason: SpeechFailure, what: str) -> SpeechError:
        what = without_key(what, self._key)
        return SpeechError(f"ElevenLabs at {self._base_url}: {what}", route="elevenlabs", reason=reason)


def _may_exceed(told: Mapping[str, Any]) -> bool:
    """Whether speech goes on beyond the plan's credits, at a price."""
    if not told.get("can_extend_character_limit"):
        return False
    return bool(told.get("max_character_limit_extension", told.get("max_credit_limit_extension")) != 0)


def _json(reply: httpx.Response) -> object:
    try:
        return json.loads(reply.content)
    except ValueError:
        return None

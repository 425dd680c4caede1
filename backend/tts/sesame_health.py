"""What a Sesame speech server says of itself: `GET /health`, as docs/reference/speech-server.md has it.

Understands servers that tell less. Refuses to know what follows from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from backend.core.agent_secrets import without_key
from backend.core.pods import PodReport, PodState
from backend.errors import SpeechError, SpeechFailure

_STATES: dict[str, PodState] = {"loading": "loading", "degraded": "degraded"}


class SesameHealth:
    """Asks speech servers how they do. One for all of them; `aclose` it at the end."""

    def __init__(self, *, api_key: str | None = None, timeout_s: float = 3.0) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        # Servers of our own: no proxy of the environment stands between.
        self._client = httpx.AsyncClient(headers=headers, timeout=timeout_s, trust_env=False)
        self._key = api_key

    async def look(self, url: str) -> PodReport:
        """What the server at `url` says.

        Raises SpeechError: unreachable, timeout, unauthorized, or not_ready while it loads its model.
        """
        reply = await self._get(url, "/health")
        if reply.status_code in (401, 403):
            raise self._key_refused(url)
        if reply.status_code != 200:
            # A proxy answers for a pod that is not there: 404, 502 and the like.
            raise _error("unreachable", url, f"no speech server answers there (HTTP {reply.status_code})")
        told = _json(reply)
        if told is None:
            raise _error("unreachable", url, "what answers there is no speech server")
        if told.keys() == {"status"}:
            # So much is told without the right key; other servers tell no more with it.
            asked = await self._get(url, "/v1/audio/voices")
            if asked.status_code in (401, 403):
                raise self._key_refused(url)
        if told.get("status") == "loading" or told.get("model_loaded") is False:
            raise _error("not_ready", url, "it is loading its model")
        return _report(told)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def _get(self, url: str, path: str) -> httpx.Response:
        try:
            return await self._client.get(f"{url}{path}")
        except httpx.TimeoutException as error:
            raise _error("timeout", url, "it does not answer in time") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            what = without_key(str(error) or type(error).__name__, self._key)
            raise _error("unreachable", url, what) from error

    def _key_refused(self, url: str) -> SpeechError:
        what = (
            "refuses SESAME_API_KEY"
            if self._key is not None
            else "wants a key, and SESAME_API_KEY is not set"
        )
        return _error("unauthorized", url, f"it {what}")


def _report(told: Mapping[str, Any]) -> PodReport:
    streams, queue = _mapping(told.get("streams")), _mapping(told.get("queue"))
    return PodReport(
        state=_STATES.get(str(told.get("status")), "healthy"),
        engine=_text(told.get("engine")),
        model=_text(told.get("model")),
        device=_text(told.get("device")),
        active=_count(streams.get("active")) or 0,
        capacity=_count(streams.get("capacity")),
        waiting=_count(queue.get("waiting")) or 0,
        max_waiting=_count(queue.get("capacity")) or 0,
        notice=_text(told.get("notice")),
        unbound_speakers=_speakers(told.get("unbound_speakers")),
    )


def _json(reply: httpx.Response) -> Mapping[str, Any] | None:
    try:
        told = reply.json()
    except ValueError:
        return None
    return told if isinstance(told, Mapping) else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _speakers(value: object) -> tuple[int, ...] | None:
    """None: the server does not tell, or not in a way that can be read."""
    if not isinstance(value, list):
        return None
    counts = [_count(each) for each in value]
    return None if None in counts else tuple(each for each in counts if each is not None)


def _text(value: object) -> str:
    return value[:500] if isinstance(value, str) else ""


def _error(reason: SpeechFailure, url: str, what: str) -> SpeechError:
    return SpeechError(f"Sesame speech server at {url}: {what}", route="sesame", reason=reason)

"""Speech-to-text by any server with OpenAI's `/v1/audio/transcriptions`: one upload an utterance.

Knows no call and no other route; whoever asks sets the deadline.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from urllib.parse import urlsplit

import httpx

from backend.core.agent_secrets import without_key
from backend.core.hearing import RATE_HZ
from backend.errors import HearingError, SpeechFailure

DEFAULT_MODEL = "whisper-1"
"""What OpenAI and most servers of its kind know."""
_MIN_BYTES = RATE_HZ * 2 // 10  # OpenAI refuses less than 0.1 s
_MAX_ANSWER_BYTES = 1 << 20
_MAX_PROMPT_CHARS = 600  # OpenAI reads the last 224 tokens
_STATUSES: dict[int, SpeechFailure] = {
    401: "unauthorized", 403: "unauthorized", 402: "quota", 404: "protocol", 408: "timeout", 405: "protocol",
    429: "rate_limited", 503: "busy",
}  # fmt: skip


class OpenAiTranscriber:
    """One server and model, for all calls. Close it when the last call is over."""

    name = "openai"

    def __init__(
        self,
        base_url: str,
        *,
        http: httpx.AsyncClient,
        api_key: str = "",
        model: str = DEFAULT_MODEL,
        language: str | None = None,
        key_terms: Sequence[str] = (),
    ) -> None:
        """`base_url` as in OPENAI_BASE_URL, with its /v1; `language` as in "en-US"; `http` stays open."""
        self._url = f"{base_url.rstrip('/')}/audio/transcriptions"
        self._http = http
        self._key = api_key
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._fields = {"model": model, "response_format": "json"}
        if language:
            self._fields["language"] = language.partition("-")[0]
        if key_terms:
            self._fields["prompt"] = _hint(key_terms)

    async def transcribe(self, pcm16_8k: bytes) -> str:
        """Words of one utterance; "" for none, or for less than a tenth of a second. Raises HearingError."""
        if len(pcm16_8k) < _MIN_BYTES:
            return ""
        files = {"file": ("utterance.wav", wav(pcm16_8k), "audio/wav")}
        try:
            request = self._http.build_request(
                "POST", self._url, headers=self._headers, data=self._fields, files=files, timeout=None
            )
            response = await self._http.send(request, stream=True)
            try:
                body = await self._body(response)
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            raise self._error(*_failure(error)) from error
        except httpx.InvalidURL as error:
            raise self._error("unreachable", f"this is no address: {error}") from error
        if response.status_code != 200:
            raise self._refused(response.status_code, body)
        try:
            text = json.loads(body)["text"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._error("protocol", 'its answer is not JSON with a "text"') from error
        if not isinstance(text, str):
            raise self._error("protocol", 'the "text" of its answer is not text')
        return " ".join(text.split())

    async def _body(self, response: httpx.Response) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > _MAX_ANSWER_BYTES:
                raise self._error("protocol", f"its answer is longer than {_MAX_ANSWER_BYTES} bytes")
        return bytes(body)

    def _refused(self, status: int, body: bytes) -> HearingError:
        said, code = _said(body)
        reason = _STATUSES.get(status, "generation_failed" if status >= 500 else "bad_request")
        if status < 400:
            reason = "protocol"  # what answers there is something else, such as a login page's redirect
        if code == "insufficient_quota":
            reason = "quota"
        return self._error(reason, f"HTTP {status}: {said}")

    def _error(self, reason: SpeechFailure, what: str) -> HearingError:
        host = urlsplit(self._url).netloc.rpartition("@")[2]
        what = without_key(what, self._key)
        return HearingError(f"speech-to-text at {host}: {what}", route=self.name, reason=reason)


def _hint(key_terms: Sequence[str]) -> str:
    """As many of them as fit, each whole: half a name would be a wrong one."""
    hint = ""
    for term in key_terms:
        longer = f"{hint}, {term}" if hint else term
        if len(longer) <= _MAX_PROMPT_CHARS:
            hint = longer
    return hint


def wav(pcm16_8k: bytes) -> bytes:
    """The audio as a WAV file."""
    data = pcm16_8k[: len(pcm16_8k) & ~1]
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, 1, RATE_HZ, 2 * RATE_HZ, 2, 16, b"data", len(data),
    )  # fmt: skip
    return head + data


def _said(body: bytes) -> tuple[str, str]:
    """The sentence and the code of an error's body, as far as there are any."""
    try:
        error = json.loads(body)["error"]
        return str(error.get("message", ""))[:300], str(error.get("code") or error.get("type") or "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return body[:120].decode(errors="replace").strip() or "no reason given", ""


def _failure(error: httpx.HTTPError) -> tuple[SpeechFailure, str]:
    said = str(error) or type(error).__name__
    if isinstance(error, httpx.TimeoutException):
        return "timeout", f"no answer in time: {said}"
    if isinstance(error, httpx.ConnectError | httpx.ProxyError | httpx.UnsupportedProtocol):
        return "unreachable", f"cannot connect: {said}"
    if isinstance(error, httpx.NetworkError):
        return "closed", f"the connection was lost: {said}"
    if isinstance(error, httpx.RemoteProtocolError):
        ended = "without" in said or "disconnected" in said  # h11's words for an answer that just ends
        return ("closed", f"the connection was lost: {said}") if ended else ("protocol", said)
    return "protocol", said


def make_client() -> httpx.AsyncClient:
    """A client that keeps its connections, for every `OpenAiTranscriber` of a process."""
    limits = httpx.Limits(max_connections=200, keepalive_expiry=60.0)
    return httpx.AsyncClient(limits=limits, trust_env=False)

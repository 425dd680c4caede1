"""Call Control: tells Telnyx what to do with a call, through its official SDK.

Every command carries a `command_id`, so that a retry cannot act twice, and has one deadline over all its
attempts. Refuses to know what a call is for and what happens next: Telnyx answers that by webhooks.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from backend.errors import CarrierError
from backend.telnyx.refusals import refusal, unreachable

if TYPE_CHECKING:
    import httpx
    from telnyx.types import CallDialResponse

T = TypeVar("T")
RejectCause = Literal["CALL_REJECTED", "NOT_FOUND", "TEMPORARILY_UNAVAILABLE", "USER_BUSY"]
StreamCodec = Literal["PCMU", "PCMA"]
SpeakLanguage = Literal[
    "arb", "cmn-CN", "cy-GB", "da-DK", "de-DE", "en-AU", "en-GB", "en-GB-WLS", "en-IN", "en-US",
    "es-ES", "es-MX", "es-US", "fr-CA", "fr-FR", "hi-IN", "is-IS", "it-IT", "ja-JP", "ko-KR",
    "nb-NO", "nl-NL", "pl-PL", "pt-BR", "pt-PT", "ro-RO", "ru-RU", "sv-SE", "tr-TR",
]  # fmt: skip

log = logging.getLogger(__name__)

# Where a bare language tag leaves a choice, or Telnyx's tag is another one.
_PREFERRED: dict[str, SpeakLanguage] = {
    "en": "en-US", "es": "es-ES", "ar": "arb", "zh": "cmn-CN", "no": "nb-NO", "pt": "pt-BR", "fr": "fr-FR",
}  # fmt: skip
# Deepgram knows other languages without a country.
_DEEPGRAM_REGIONS = frozenset("en-US en-AU en-GB en-IN en-NZ sv-SE da-DK fr-CA pt-BR pt-PT".split())
SPEAK_MAX_CHARS = 3000  # telnyx: ActionSpeakParams.payload
ATTEMPTS = 3
FIRST_RETRY_DELAY_S = 0.2
_RETRIED_STATUSES = frozenset({408, 409, 429})


@dataclass(frozen=True, slots=True)
class DialedCall:
    """What Telnyx calls the call it has begun to dial."""

    call_control_id: str
    call_leg_id: str
    call_session_id: str


class CallControl:
    """Telnyx's Call Control commands. Make one per process; the SDK is imported here (about a second).

    Every method raises `CallGone` when the call has already ended and `CarrierError` for any other refusal,
    or when Telnyx cannot be reached or does not answer within `timeout_s` (seconds, all attempts together).
    """

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str,
        connection_id: str,
        timeout_s: float = 10.0,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        # Imported late: the SDK takes about a second, which a process without a carrier need not pay.
        from telnyx import AsyncTelnyx

        self._api_key = api_key
        self._base_url = base_url
        self._connection_id = connection_id
        self._timeout_s = timeout_s
        self._owns_http_client = http_client is None
        self._client = AsyncTelnyx(
            api_key=api_key or "not-set",
            # Empty, not None: the SDK would read them from the environment and drop the API key for OAuth.
            client_id="",
            client_secret="",
            base_url=base_url,
            # An attempt may take less than the whole, so that a lost packet leaves time for another.
            timeout=timeout_s * 0.45,
            # Ours knows the deadline; the SDK's would obey a Retry-After of a minute.
            max_retries=0,
            http_client=http_client,
        )
        # These are imported at first use: now, not while the first call rings.
        self._calls = self._client.calls
        self._actions = self._client.calls.actions
        self._balance = self._client.balance

    async def aclose(self) -> None:
        """Close the connections to Telnyx; an `http_client` that was handed in stays open."""
        if self._owns_http_client:
            await self._client.close()

    async def answer(self, ccid: str, *, command_id: str) -> None:
        """Answer an inbound call; `call.answered` follows."""
        await self._run("answer the call", lambda: self._actions.answer(ccid, command_id=command_id))

    async def start_streaming(
        self, ccid: str, *, stream_url: str, auth_token: str, codec: StreamCodec = "PCMU", command_id: str
    ) -> None:
        """Have Telnyx connect its media WebSocket to `stream_url` (wss) and take our audio from it."""
        await self._run(
            "start the media stream",
            lambda: self._actions.start_streaming(
                ccid,
                stream_url=stream_url,
                stream_track="inbound_track",
                # Telnyx's default is mp3, with which raw audio is dropped without a word.
                stream_bidirectional_mode="rtp",
                stream_bidirectional_codec=codec,
                stream_bidirectional_target_legs="self",
                stream_auth_token=auth_token,
                command_id=command_id,
            ),
        )

    async def dial(
        self,
        *,
        to: str,
        from_: str,
        timeout_secs: int = 30,
        client_state: str | None = None,
        time_limit_secs: int | None = None,
        machine_detection: Literal["detect", "greeting_end"] | None = None,
        command_id: str,
    ) -> DialedCall:
        """Begin a call to `to`. `client_state` is plain text; every event of the call brings it back.

        `machine_detection`: find out whether a machine picks up, and when its greeting ends; told by
        `call.machine.detection.ended` and `call.machine.greeting.ended`.
        """
        if not self._connection_id:
            raise CarrierError(
                "No call can be placed: set TELNYX_CONNECTION_ID to the id of a Voice API application.",
                code="no_connection",
            )
        options: dict[str, Any] = {}
        if client_state is not None:
            options["client_state"] = base64.b64encode(client_state.encode()).decode("ascii")
        if time_limit_secs is not None:
            options["time_limit_secs"] = time_limit_secs
        if machine_detection is not None:
            options["answering_machine_detection"] = machine_detection
        answer = await self._run(
            f"dial {to}",
            lambda: self._calls.dial(
                connection_id=self._connection_id,
                to=to,
                from_=from_,
                timeout_secs=timeout_secs,
                command_id=command_id,
                **options,
            ),
            on_call=False,
        )
        return _dialed(answer, to)

    async def hangup(self, ccid: str, *, command_id: str) -> None:
        """End the call."""
        await self._run("hang up the call", lambda: self._actions.hangup(ccid, command_id=command_id))

    async def reject(self, ccid: str, *, cause: RejectCause, command_id: str) -> None:
        """Turn an inbound call away before it is answered."""
        await self._run(
            "reject the call", lambda: self._actions.reject(ccid, cause=cause, command_id=command_id)
        )

    async def transfer(self, ccid: str, *, to: str, command_id: str) -> None:
        """Hand the other party over to `to` (E.164 or a sip: address)."""
        await self._run(
            f"transfer the call to {to}",
            lambda: self._actions.transfer(ccid, to=to, command_id=command_id),
        )

    async def send_dtmf(self, ccid: str, *, digits: str, command_id: str) -> None:
        """Press keys towards the other party: 0-9 A-D * #, `w` waits 0.5 s and `W` 1 s."""
        await self._run(
            "press the keys", lambda: self._actions.send_dtmf(ccid, digits=digits, command_id=command_id)
        )

    async def speak(
        self, ccid: str, *, text: str, language: str, voice: str = "female", command_id: str
    ) -> None:
        """Have Telnyx's own voice say `text` (at most 3000 characters); `language` is "en", "en-GB" …"""
        if len(text) > SPEAK_MAX_CHARS:
            raise CarrierError(
                f"Telnyx speaks at most {SPEAK_MAX_CHARS} characters at once; this text has {len(text)}.",
                code="text_too_long",
            )
        await self._run(
            "speak the text",
            lambda: self._actions.speak(
                ccid, payload=text, voice=voice, language=speak_language(language), command_id=command_id
            ),
        )

    async def stop_speaking(self, ccid: str, *, command_id: str) -> None:
        """Cut Telnyx's own voice short; it then reports `call.speak.ended`."""
        await self._run(
            "stop speaking",
            lambda: self._actions.stop_playback(ccid, stop="all", command_id=command_id),
        )

    async def start_transcription(
        self, ccid: str, *, model: str | None, language: str, key_terms: Sequence[str] = (), command_id: str
    ) -> None:
        """Have Telnyx tell what the other party says, by `call.transcription`, until the call ends.

        `model`: "deepgram/nova-3", "openai/whisper-large-v3-turbo" …; None: as Telnyx's own engine likes.
        """
        engine, config = transcription_engine(model, language, key_terms)
        await self._run(
            "listen along",
            lambda: self._actions.start_transcription(
                ccid,
                transcription_engine=engine,
                transcription_engine_config=config,
                transcription_tracks="inbound",
                command_id=command_id,
            ),
        )

    async def start_recording(
        self,
        ccid: str,
        *,
        channels: Literal["single", "dual"],
        audio_format: Literal["mp3", "wav"],
        client_state: str,
        command_id: str,
    ) -> None:
        """Record the call from now on; `call.recording.saved` or `.error` follows when it has ended.

        `client_state` is plain text that those bring back: they may name no call.
        """
        await self._run(
            "record the call",
            lambda: self._actions.start_recording(
                ccid,
                channels=channels,
                format=audio_format,
                client_state=base64.b64encode(client_state.encode()).decode("ascii"),
                command_id=command_id,
            ),
        )

    async def stop_recording(self, ccid: str, *, command_id: str) -> None:
        """Record no more."""
        await self._run("stop recording", lambda: self._actions.stop_recording(ccid, command_id=command_id))

    async def check(self) -> None:
        """Whether Telnyx is reachable and takes our key; returns if so.

        A key without the right to see the balance is still a good key, so 403 is fine.
        """
        try:
            await self._run("answer the key check", self._balance.retrieve, on_call=False)
        except CarrierError as error:
            if error.status not in (403, 404):
                raise

    async def _run(self, doing: str, command: Callable[[], Awaitable[T]], *, on_call: bool = True) -> T:
        """Run a command within its deadline, retrying what may pass; the only place that sees SDK errors."""
        if not self._api_key:
            raise CarrierError(
                f"Telnyx did not {doing}: no key. Set TELNYX_API_KEY to a V2 key from portal.telnyx.com.",
                code="no_key",
            )
        # Loaded by __init__; only names here.
        from telnyx import APIError, APIStatusError

        clock_s = asyncio.get_running_loop().time
        deadline_s = clock_s() + self._timeout_s
        attempt = 0
        while True:
            attempt += 1
            status = retry_after = None
            try:
                async with asyncio.timeout_at(deadline_s):
                    return await command()
            except APIStatusError as error:
                status, retry_after = error.status_code, error.response.headers.get("retry-after")
                failure = refusal(doing, error.status_code, error.body, on_call=on_call)
                cause: Exception = error
            except (APIError, TimeoutError) as error:
                failure = unreachable(doing, self._base_url, cause=self._silence(error))
                cause = error
            delay_s = retry_delay_s(status, retry_after, attempt=attempt, left_s=deadline_s - clock_s())
            if delay_s is None:
                raise failure from cause
            log.info("%s Trying again in %.1f s.", failure, delay_s)
            await asyncio.sleep(delay_s)

    def _silence(self, error: Exception) -> str:
        """Why there was no usable answer, as a clause."""
        from telnyx import APIConnectionError, APITimeoutError

        if isinstance(error, TimeoutError | APITimeoutError):
            return f"did not answer in time ({self._timeout_s:g} s for the command)"
        if isinstance(error, APIConnectionError):
            return f"cannot be reached ({error.__cause__ or error})"
        return f"gave an answer that is not Telnyx's ({error})"


def retry_delay_s(
    status: int | None, retry_after: str | None, *, attempt: int, left_s: float
) -> float | None:
    """How long to wait before trying again, or None to give up.

    `status` None: no connection or no answer. `attempt` counts from 1; `left_s` is what remains of the
    command's deadline. A `Retry-After` (seconds) beyond that means giving up now, not after waiting in vain.
    """
    if attempt >= ATTEMPTS or (status is not None and status not in _RETRIED_STATUSES and status < 500):
        return None
    delay_s = FIRST_RETRY_DELAY_S * 3 ** (attempt - 1)
    if retry_after is not None and retry_after.strip().isdecimal():
        delay_s = max(delay_s, float(retry_after))
    return delay_s if delay_s < left_s else None


def transcription_engine(
    model: str | None, language: str, key_terms: Sequence[str]
) -> tuple[Literal["Telnyx", "Deepgram"], Any]:
    """The engine that has a model, and how it is asked for; whatever is not Deepgram's is Telnyx's own.

    Telnyx's engine tells final words only and knows languages without a country.
    """
    if model is None or not model.startswith("deepgram/"):
        config: dict[str, Any] = {"transcription_engine": "Telnyx", "language": language.partition("-")[0]}
        return "Telnyx", config | ({"transcription_model": model} if model else {})
    spoken = language if language in _DEEPGRAM_REGIONS else language.partition("-")[0]
    config = {
        "transcription_engine": model,
        "transcription_model": model,
        "language": spoken,
        "interim_results": True,
    }
    if key_terms:
        # Names in Deepgram's older models are hints, of which it makes less.
        config["keyterms" if model == "deepgram/nova-3" else "hints"] = list(key_terms)
    return "Deepgram", config


def speak_language(language: str) -> SpeakLanguage:
    """The nearest language Telnyx's basic voices speak: the same, one of the same tongue, or US English."""
    known: tuple[SpeakLanguage, ...] = get_args(SpeakLanguage)
    wanted = language.replace("_", "-").lower()
    for candidate in known:
        if candidate.lower() == wanted:
            return candidate
    tongue = wanted.split("-")[0]
    if tongue in _PREFERRED:
        return _PREFERRED[tongue]
    return next((candidate for candidate in known if candidate.lower().startswith(f"{tongue}-")), "en-US")


def _dialed(answer: CallDialResponse, to: str) -> DialedCall:
    # The SDK builds its models without checking them (text for what is not JSON): anything may be missing.
    data = getattr(answer, "data", None)
    ids = [getattr(data, name, None) for name in ("call_control_id", "call_leg_id", "call_session_id")]
    if not ids[0]:
        raise CarrierError(f"Telnyx did not dial {to}: its answer names no call.", code="protocol")
    return DialedCall(str(ids[0]), str(ids[1] or ""), str(ids[2] or ""))

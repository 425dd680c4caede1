"""The stand-in's WebSockets: `stream-input` and `multi-stream-input`, worded as the vendor words them.

A single stream is a context without a name. Knows nothing of HTTP; keys and credit are the account's.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from dataclasses import dataclass, field
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from backend.simulator.elevenlabs_account import Account, Refused
from backend.simulator.elevenlabs_formats import Piece, pieces
from backend.simulator.elevenlabs_voice import Speech, VendorVoice

log = logging.getLogger(__name__)

_MAX_CONTEXTS = 5
_MAX_WAITING = 64  # texts of one context; beyond it the socket is read no further
_SCHEDULE = (120, 160, 250, 290)  # characters that must be there before speech begins unasked
_LEAST_TRIED = 50  # characters; the least that the schedule may name, too
_CHUNK_MS = 250.0
_SENTENCE_ENDS = (".", "!", "?", "…")


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the stand-in speaks: the wait for its first sound, then a multiple of real time."""

    first_audio_ms: float = 75.0
    times_real_time: float = 10.0

    def delay_s(self, made_ms: float) -> float:
        """Seconds from the request until so much sound is made."""
        return (self.first_audio_ms + made_ms / self.times_real_time) / 1000


@dataclass(slots=True, eq=False)
class _Context:
    name: str | None
    buffer: str = ""
    spoken_parts: int = 0
    schedule: tuple[float, ...] = _SCHEDULE
    texts: asyncio.Queue[str | None] = field(default_factory=lambda: asyncio.Queue(_MAX_WAITING))


class SpeechSocket:
    """One accepted connection. `serve` returns when it is over."""

    def __init__(
        self,
        socket: WebSocket,
        account: Account,
        voice: VendorVoice,
        pace: Pace,
        *,
        voice_id: str,
        multi: bool,
    ) -> None:
        query = socket.query_params
        self._socket, self._account, self._voice, self._pace, self._multi = (
            socket,
            account,
            voice,
            pace,
            multi,
        )
        self._voice_id = voice_id
        self._model_id = query.get("model_id", "eleven_multilingual_v2")
        self._format = query.get("output_format", "mp3_44100_128")
        self._auto = query.get("auto_mode", "false").lower() == "true"
        self._aligned = query.get("sync_alignment", "false").lower() == "true" or not multi
        self._inactivity_s = min(180.0, float(query.get("inactivity_timeout", "20")))
        self._contexts: dict[str | None, _Context] = {}
        self._key_checked = False

    async def serve(self) -> None:
        """Speak until the client or an error ends it."""
        try:
            self._check_header()
            async with asyncio.TaskGroup() as speaking:
                await self._listen(speaking)
            await self._socket.close(1000)
        except* Refused as refused:
            first = _first(refused)
            await self._socket.send_text(json.dumps(first.frame()))
            await self._socket.close(1008, first.code)
        except* (WebSocketDisconnect, RuntimeError):  # starlette's for a send after the end
            log.debug("the client has gone")

    def _check_header(self) -> None:
        given = self._socket.headers.get("xi-api-key")
        if given is not None:
            self._check(given)

    def _check(self, key: str | None) -> None:
        self._account.check_key(key)
        self._key_checked = True
        self._account.check_request(
            voice_id=self._voice_id, model_id=self._model_id, output_format=self._format, socket=True
        )

    async def _listen(self, speaking: asyncio.TaskGroup) -> None:
        while True:
            message = await self._receive()
            if not self._key_checked:
                self._check(message.get("xi_api_key") or message.get("xi-api-key"))
            if message.get("close_socket"):
                break
            if await self._take(message, speaking):
                break
        for context in list(self._contexts.values()):
            await self._close(context)

    async def _receive(self) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._inactivity_s):
                raw = await self._socket.receive_text()
        except TimeoutError as error:
            message = (
                f"Have not received a new text input within the timeout of {self._inactivity_s} seconds."
            )
            raise Refused(1008, "input_timeout_exceeded", message) from error
        except KeyError as error:  # a binary frame
            raise Refused(1008, "invalid_message", "Messages must be JSON text.") from error
        try:
            message = json.loads(raw)
        except ValueError as error:
            raise Refused(1008, "invalid_message", "The message is not JSON.") from error
        if not isinstance(message, dict):
            raise Refused(1008, "invalid_message", "The message is not a JSON object.")
        return message

    async def _take(self, message: dict[str, Any], speaking: asyncio.TaskGroup) -> bool:
        """→ whether the client has nothing more to say."""
        name = str(message.get("context_id") or "default") if self._multi else None
        text = message.get("text")
        context = self._contexts.get(name)
        if context is None:
            if not text or message.get("close_context"):
                return not self._multi and text == ""
            if len(self._contexts) >= _MAX_CONTEXTS:
                raise Refused(1008, "max_contexts_exceeded", f"At most {_MAX_CONTEXTS} contexts are allowed.")
            context = self._contexts[name] = _Context(name)
            schedule = (message.get("generation_config") or {}).get("chunk_length_schedule")
            context.schedule = tuple(schedule or _SCHEDULE)
            speaking.create_task(self._speak_all(context))
        context.buffer += text or ""
        ends = not self._multi and text == ""
        if message.get("close_context") or ends:
            await self._close(context, flush=ends)
        elif message.get("flush") or self._is_due(context, tried=bool(message.get("try_trigger_generation"))):
            await self._flush(context)
        return ends

    def _is_due(self, context: _Context, *, tried: bool = False) -> bool:
        """`tried`: the client asks for sound as soon as there is enough text for any."""
        said = context.buffer.strip()
        if tried and len(said) >= _LEAST_TRIED:
            return True
        if self._auto:
            return said.endswith(_SENTENCE_ENDS)
        return len(said) >= context.schedule[min(context.spoken_parts, len(context.schedule) - 1)]

    async def _flush(self, context: _Context) -> None:
        text, context.buffer = context.buffer.strip(), ""
        if text:
            context.spoken_parts += 1
            await context.texts.put(text)

    async def _close(self, context: _Context, *, flush: bool = True) -> None:
        """What was flushed goes on to its end; what was not is dropped, unless the whole stream ends."""
        if flush:
            await self._flush(context)
        self._contexts.pop(context.name, None)
        await context.texts.put(None)

    async def _speak_all(self, context: _Context) -> None:
        while (text := await context.texts.get()) is not None:
            await self._speak(context, text)
        await self._send(context, {"audio": "" if self._multi else None, "isFinal": True})

    async def _speak(self, context: _Context, text: str) -> None:
        try:
            self._account.charge(text, self._model_id)
        except Refused as refused:
            if refused.code == "quota_exceeded" and self._account.silent_quota:
                return  # isFinal will come, and not a sound
            raise
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        with self._account.generating():
            speech = await self._voice.say(text)
            for piece in await asyncio.to_thread(
                lambda: list(pieces(speech.pcm16, self._format, each_ms=_CHUNK_MS))
            ):
                await asyncio.sleep(began_s + self._pace.delay_s(piece.from_ms) - loop.time())
                await self._send(context, self._chunk(speech, piece))

    def _chunk(self, speech: Speech, piece: Piece) -> dict[str, Any]:
        alignment = speech.alignment(piece.from_ms, piece.until_ms) if self._aligned else None
        return {
            "audio": base64.b64encode(piece.data).decode(),
            "isFinal": None,
            "alignment": alignment,
            "normalizedAlignment": alignment,
        }

    async def _send(self, context: _Context, message: dict[str, Any]) -> None:
        if context.name is not None:
            message["contextId"] = context.name
        await self._socket.send_text(json.dumps(message))


def _first(group: BaseExceptionGroup[Refused]) -> Refused:
    error = group.exceptions[0]
    return error if isinstance(error, Refused) else _first(error)

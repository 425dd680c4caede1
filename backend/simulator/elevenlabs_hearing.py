"""The stand-in's realtime speech-to-text: hears for real, worded as the vendor words it.

Commits come from the client alone (`commit_strategy=manual`). Keys and credit are the account's.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import uuid
from typing import Any, Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect

from backend.core.g711 import Codec
from backend.errors import HearingError
from backend.simulator.elevenlabs_account import Account, Refused

log = logging.getLogger(__name__)

MODELS = ("scribe_v2_realtime",)
_RATE_HZ = 8_000
_LEAST_COMMIT_BYTES = 300 * _RATE_HZ * 2 // 1000
_MAX_CHUNK_CHARS = 1 << 20
_MAX_UNCOMMITTED_BYTES = 90 * _RATE_HZ * 2  # the vendor then commits by itself
_PARTIAL_EVERY_BYTES = _RATE_HZ * 2
_MAX_KEYTERMS, _KEYTERM_CHARS = 50, 20
_FORMATS = ("ulaw_8000", "pcm_8000")


class Transcriber(Protocol):
    """What really hears."""

    async def transcribe(self, pcm16_8k: bytes) -> str:
        """Words of one utterance. Raises HearingError."""
        ...


class HearingSocket:
    """One accepted connection. `serve` returns when it is over."""

    def __init__(self, socket: WebSocket, account: Account, ears: Transcriber) -> None:
        self._socket, self._account, self._ears = socket, account, ears
        self._audio = bytearray()
        self._partial_at = _PARTIAL_EVERY_BYTES

    async def serve(self) -> None:
        """Hear until the client or an error ends it."""
        try:
            self._check()
            await self._started()
            while True:
                await self._take(await self._receive())
        except Refused as refused:
            await self._socket.send_text(
                json.dumps({"message_type": refused.code, "error": str(refused)}, ensure_ascii=False)
            )
            await self._socket.close(1008, refused.code)
        except (WebSocketDisconnect, RuntimeError):  # starlette's for a send after the end
            log.debug("the client has gone")

    def _check(self) -> None:
        query = self._socket.query_params
        try:
            self._account.check_key(self._socket.headers.get("xi-api-key"))
        except Refused as refused:
            raise Refused(1008, "auth_error", str(refused)) from refused
        if query.get("model_id") not in MODELS:
            raise Refused(1008, "invalid_request", f"Invalid model id {query.get('model_id')}.")
        if query.get("audio_format", "pcm_16000") not in _FORMATS:
            raise Refused(1008, "invalid_request", f"This stand-in hears {' and '.join(_FORMATS)} only.")
        if query.get("commit_strategy", "manual") != "manual":
            raise Refused(1008, "invalid_request", "This stand-in knows commit_strategy=manual only.")
        terms = query.getlist("keyterms")
        if len(terms) > _MAX_KEYTERMS or any(len(term) > _KEYTERM_CHARS for term in terms):
            raise Refused(
                1008, "invalid_request", f"At most {_MAX_KEYTERMS} keyterms of {_KEYTERM_CHARS} characters."
            )

    async def _started(self) -> None:
        query = self._socket.query_params
        config = {
            "sample_rate": _RATE_HZ,
            "audio_format": query.get("audio_format"),
            "language_code": query.get("language_code"),
            "model_id": query.get("model_id"),
            "commit_strategy": "manual",
            "keyterms": query.getlist("keyterms"),
        }
        await self._send("session_started", session_id=uuid.uuid4().hex, config=config)

    async def _receive(self) -> dict[str, Any]:
        try:
            raw = await self._socket.receive_text()
        except KeyError as error:  # a binary frame
            raise Refused(1008, "input_error", "Messages must be JSON text.") from error
        try:
            message = json.loads(raw)
        except ValueError as error:
            raise Refused(1008, "input_error", "The message is not JSON.") from error
        if not isinstance(message, dict) or message.get("message_type") != "input_audio_chunk":
            raise Refused(1008, "input_error", "The message is no input_audio_chunk.")
        return message

    async def _take(self, message: dict[str, Any]) -> None:
        encoded = message.get("audio_base_64")
        if not isinstance(encoded, str) or len(encoded) > _MAX_CHUNK_CHARS:
            raise Refused(1008, "chunk_size_exceeded", "audio_base_64 is missing or too long.")
        try:
            audio = base64.b64decode(encoded, validate=True)
        except binascii.Error as error:
            raise Refused(1008, "input_error", "audio_base_64 is not base64.") from error
        is_ulaw = self._socket.query_params.get("audio_format") == "ulaw_8000"
        self._audio += Codec.PCMU.decode(audio) if is_ulaw else audio
        if message.get("commit") or len(self._audio) >= _MAX_UNCOMMITTED_BYTES:
            await self._commit()
        elif len(self._audio) >= self._partial_at:
            self._partial_at = len(self._audio) + _PARTIAL_EVERY_BYTES
            await self._send("partial_transcript", text=await self._words(bytes(self._audio)))

    async def _commit(self) -> None:
        if len(self._audio) < _LEAST_COMMIT_BYTES:
            await self._send("commit_throttled", error="You need 0.3 s of uncommitted audio.")
            return
        audio, self._partial_at = bytes(self._audio), _PARTIAL_EVERY_BYTES
        self._audio.clear()
        try:
            self._account.charge("x" * max(1, len(audio) // (_RATE_HZ * 2)), "eleven_multilingual_v2")
        except Refused as refused:
            raise Refused(1008, "quota_exceeded", str(refused)) from refused
        await self._send("committed_transcript", text=await self._words(audio))

    async def _words(self, pcm16: bytes) -> str:
        try:
            return await self._ears.transcribe(pcm16)
        except HearingError as error:
            raise Refused(1008, "transcriber_error", str(error)) from error

    async def _send(self, message_type: str, **fields: Any) -> None:
        await self._socket.send_text(json.dumps({"message_type": message_type, **fields}))

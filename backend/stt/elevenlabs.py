"""ElevenLabs' realtime speech-to-text: a WebSocket a call, fed while the caller speaks, committed by us.

The vendor's own voice detection stays off: when a turn ends is decided elsewhere. Whoever asks sets the
deadline. Reply by reply: a `committed_transcript` for each commit, in order.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

import websockets
from websockets.asyncio.client import ClientConnection

from backend.core.agent_secrets import without_key
from backend.core.elevenlabs import decoded, refusal
from backend.core.g711 import Codec
from backend.core.hearing import RATE_HZ
from backend.core.urls import websocket_url
from backend.errors import HearingError, SpeechFailure
from backend.sockets import dial, hang_up, unreachable

log = logging.getLogger(__name__)

DEFAULT_MODEL = "scribe_v2_realtime"
_MAX_KEY_TERMS, _KEY_TERM_CHARS = 50, 20
_BYTES_PER_MS = RATE_HZ * 2 // 1000
_CHUNK_BYTES = 1000 * _BYTES_PER_MS
_LEAST_COMMIT_BYTES = 400 * _BYTES_PER_MS  # the vendor refuses to commit less than 0.3 s
_LEFT_OVER_BYTES = 1500 * _BYTES_PER_MS  # silence after a turn may lead the next one; more may be words
_COMMIT_BYTES = 60_000 * _BYTES_PER_MS  # of a monologue; at 90 s the vendor commits by itself, which we miss
_MOST_BYTES = 120_000 * _BYTES_PER_MS  # kept of a turn, to be told again to another connection
_MONOLOGUE_BYTES, _MARK_BYTES = 30_000 * _BYTES_PER_MS, 250 * _BYTES_PER_MS
_OVERDUE_S = 3.0  # a commit without an answer for so long: the connection is of no use any more
_LET_GO_S = 0.8
_MAX_MESSAGE_BYTES = 1 << 20
_REASONS: dict[str, SpeechFailure] = {
    "auth_error": "unauthorized", "unaccepted_terms": "unauthorized", "quota_exceeded": "quota",
    "rate_limited": "rate_limited", "queue_overflow": "busy", "resource_exhausted": "busy",
    "session_time_limit_exceeded": "closed", "input_error": "bad_request", "invalid_request": "bad_request",
    "chunk_size_exceeded": "bad_request",
}  # fmt: skip
# Told of a commit that gives no text; the session goes on.
_NO_TEXT = frozenset({"commit_throttled", "insufficient_audio_activity"})


@dataclass(eq=False)
class _Link:
    """One connection: how much of the turn under way it was sent, and what came back."""

    connection: ClientConnection
    reader: asyncio.Task[None] | None = None
    started: bool = False
    ended: HearingError | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    sending: asyncio.Lock = field(default_factory=asyncio.Lock)
    sent: int = 0  # bytes of the turn
    committed: int = 0  # of them
    commits: int = 0  # of this turn
    texts: list[str] = field(default_factory=list)  # of this turn's commits
    strays: int = 0  # commits of earlier turns, without an answer yet
    left_over: int = 0  # bytes of earlier turns that were never committed
    asked_s: float = 0.0

    def begin(self) -> None:
        """Another turn."""
        self.strays += self.commits - len(self.texts)
        self.left_over += self.sent - self.committed
        self.sent = self.committed = self.commits = 0
        self.texts = []

    def heard(self, text: str) -> None:
        """The answer to the oldest commit."""
        if self.strays:
            self.strays -= 1
        elif len(self.texts) < self.commits:
            self.texts.append(" ".join(text.split()))

    @property
    def waiting(self) -> bool:
        return bool(self.strays) or len(self.texts) < self.commits


class ElevenLabsTranscriber:
    """One call's ears. `connect` before the first words; what a lost connection was told is told again."""

    name = "elevenlabs"

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str,
        model: str = DEFAULT_MODEL,
        language: str | None = None,
        key_terms: Sequence[str] = (),
        connect_timeout_s: float = 5.0,
    ) -> None:
        """`language` as in "en-US". Of `key_terms` the vendor takes 50, of 20 characters at most."""
        query = [("model_id", model), ("audio_format", "ulaw_8000"), ("commit_strategy", "manual")]
        if language:
            query.append(("language_code", language.partition("-")[0]))
        fitting = [term for term in key_terms if len(term) <= _KEY_TERM_CHARS]
        query += [("keyterms", term) for term in fitting[:_MAX_KEY_TERMS]]
        self.url = websocket_url(base_url, f"/v1/speech-to-text/realtime?{urlencode(query)}")
        self._key = api_key
        self._headers = {"xi-api-key": api_key}
        self._connect_timeout_s = connect_timeout_s
        self._turn = bytearray()  # pcm16, all of the turn under way
        self._link: _Link | None = None
        self._opening = asyncio.Lock()
        self._feeder: asyncio.Task[None] | None = None
        self._fed = asyncio.Event()
        self._wanted = False  # a turn has begun: its audio is to be sent
        self._closed = False

    async def connect(self) -> None:
        """Open the connection unless it is open, and wait until the vendor listens. Raises HearingError."""
        await self._open()
        self._keep_fed()

    def hear(self, pcm16_8k: bytes, *, begins: bool) -> None:
        """The next audio of a turn; it is sent soon, if there is a connection."""
        if begins:
            self._begin()
            self._wanted = True
        self._turn += pcm16_8k
        if len(self._turn) > _MOST_BYTES:
            self._forget(len(self._turn) - _MOST_BYTES // 2)
        self._keep_fed()
        self._fed.set()

    async def transcribe(self, pcm16_8k: bytes) -> str:
        """Words of the turn so far, or of any other utterance. Raises HearingError.

        A connection that ended since the last words is replaced, once.
        """
        kept = self._link is not None
        for attempt in (1, 2):
            try:
                return await self._words(pcm16_8k)
            except HearingError as error:
                if attempt == 2 or not kept or error.reason != "closed" or self._closed:
                    raise
        raise AssertionError

    async def aclose(self) -> None:
        """Close the connection for good, within a second."""
        self._closed = True
        if self._feeder is not None:
            self._feeder.cancel()
            await asyncio.wait([self._feeder], timeout=_LET_GO_S)
        if self._link is not None:
            await self._drop(self._link)

    # --- turns -----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._turn.clear()
        if self._link is not None:
            self._link.begin()

    def _is_end_of_monologue(self, pcm16: bytes) -> bool:
        """Whether it is the turn's audio without its beginning: who asks may keep less of it."""
        if len(pcm16) < _MONOLOGUE_BYTES:
            return False
        lately = len(self._turn) - _CHUNK_BYTES - _MARK_BYTES
        return self._turn.find(pcm16[-_MARK_BYTES:], max(0, lately)) >= 0

    def _forget(self, size: int) -> None:
        """The beginning of a monologue. Its words so far are kept, if it was sent."""
        del self._turn[:size]
        if (link := self._link) is not None:
            link.sent, link.committed = max(0, link.sent - size), max(0, link.committed - size)

    def _keep_fed(self) -> None:
        if self._feeder is None and not self._closed:
            self._feeder = asyncio.create_task(self._feed(), name="elevenlabs hearing")

    async def _words(self, pcm16: bytes) -> str:
        link = await self._open()
        turn = self._turn
        if not self._is_end_of_monologue(pcm16):
            if not (pcm16.startswith(turn) or turn.startswith(pcm16)):
                self._begin()
            turn += pcm16[len(turn) :]
        async with link.sending:
            await self._send_turn(link)
            if link.sent > link.committed:
                await self._commit(link)
        while len(link.texts) < link.commits:
            if link.ended is not None:
                raise self._again(link.ended)
            link.news.clear()
            await link.news.wait()
        return " ".join(filter(None, link.texts))

    async def _feed(self) -> None:
        """Send what `hear` was given, by a connection opened anew if the last one was lost."""
        while True:
            await self._fed.wait()
            self._fed.clear()
            link = self._link
            if self._wanted and (link is None or link.ended is not None):
                # Once a turn, while the caller is still speaking: connecting takes its time.
                with suppress(HearingError):  # met again by who asks
                    link = await self._open()
            self._wanted = False
            if link is not None and link.ended is None:
                with suppress(HearingError):  # kept in `ended`, for who asks
                    async with link.sending:
                        await self._send_turn(link)

    async def _send_turn(self, link: _Link) -> None:
        """Raises HearingError."""
        while link.sent < len(self._turn):
            if link.left_over > _LEFT_OVER_BYTES:
                self._note_asking(link)
                link.strays, link.left_over = link.strays + 1, 0
                await self._put(link, b"", commit=True)
                continue
            if link.sent - link.committed >= _COMMIT_BYTES:
                await self._commit(link)
                continue
            chunk = bytes(self._turn[link.sent : link.sent + _CHUNK_BYTES])
            link.sent += len(chunk)
            await self._put(link, chunk)

    async def _commit(self, link: _Link) -> None:
        silence = bytes(max(0, _LEAST_COMMIT_BYTES - (link.sent - link.committed)))
        self._note_asking(link)
        link.committed, link.left_over = link.sent, 0
        link.commits += 1
        await self._put(link, silence, commit=True)

    # --- connection ------------------------------------------------------------------------------------

    async def _open(self) -> _Link:
        async with self._opening:
            if self._closed:
                raise self._error("closed", "these ears were closed when their call ended")
            link = self._link
            if link is not None and link.ended is None and not self._is_overdue(link):
                return link
            if link is not None:
                await self._drop(link)
            try:
                async with asyncio.timeout(self._connect_timeout_s):
                    self._link = link = await self._connected()
            except TimeoutError as error:
                what = f"not listening within {self._connect_timeout_s:g} s"
                raise self._error("timeout", what) from error
            return link

    async def _connected(self) -> _Link:
        try:
            connection = await dial(
                self.url, headers=self._headers, max_message_bytes=_MAX_MESSAGE_BYTES, let_go_s=_LET_GO_S
            )
        except websockets.InvalidStatus as error:
            body = decoded(error.response.body or b"")
            raise self._error(*refusal(error.response.status_code, body)) from error
        except (OSError, websockets.WebSocketException) as error:
            raise self._error(*unreachable(error)) from error
        link = _Link(connection)
        link.reader = asyncio.create_task(self._serve(link), name="elevenlabs transcripts")
        try:
            while not link.started:
                if link.ended is not None:
                    raise self._again(link.ended)
                link.news.clear()
                await link.news.wait()
        except BaseException:
            await self._drop(link)
            raise
        return link

    async def _serve(self, link: _Link) -> None:
        try:
            while True:
                self._handle(link, await link.connection.recv())
                link.news.set()
        except (websockets.ConnectionClosed, OSError) as error:
            link.ended = link.ended or self._lost(error)
        except HearingError as error:
            link.ended = link.ended or error
        except Exception as error:  # a message nobody thought of: this connection is of no use any more
            log.error("ElevenLabs' transcripts: internal error", exc_info=error)
            link.ended = link.ended or self._error("protocol", f"internal error, {type(error).__name__}")
        finally:
            link.ended = link.ended or self._error("closed", "the connection was closed")
            link.news.set()
            await hang_up(link.connection, _LET_GO_S)

    def _handle(self, link: _Link, raw: str | bytes) -> None:
        message = decoded(raw)
        if not isinstance(message, Mapping):
            raise self._error("protocol", "what came is not a JSON object")
        kind, text = str(message.get("message_type", "")), message.get("text")
        if kind == "session_started":
            link.started = True
        elif kind == "committed_transcript":
            if not isinstance(text, str):
                raise self._error("protocol", "a transcript without text")
            link.heard(text)
        elif kind in _NO_TEXT:
            link.heard("")
        elif message.get("error") or kind.endswith("error") or kind in _REASONS:
            said = str(message.get("error") or message.get("message") or kind)[:300]
            raise self._error(_REASONS.get(kind, "generation_failed"), f"{kind or 'error'}: {said}")

    async def _put(self, link: _Link, pcm16: bytes, *, commit: bool = False) -> None:
        """Raises HearingError; the connection is of no use then."""
        if link.ended is not None:
            raise self._again(link.ended)
        message = {
            "message_type": "input_audio_chunk",
            "audio_base_64": base64.b64encode(Codec.PCMU.encode(pcm16)).decode(),
            "commit": commit,
            "sample_rate": RATE_HZ,
        }
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await link.connection.send(json.dumps(message))
        except TimeoutError as error:
            link.ended = link.ended or self._error("timeout", "the connection takes no more audio")
            raise self._again(link.ended) from error
        except (websockets.ConnectionClosed, OSError) as error:
            if link.reader is not None:
                await asyncio.wait([link.reader], timeout=_LET_GO_S)  # it knows why
            link.ended = link.ended or self._lost(error)
            raise self._again(link.ended) from error

    def _note_asking(self, link: _Link) -> None:
        if not link.waiting:
            link.asked_s = asyncio.get_running_loop().time()

    def _is_overdue(self, link: _Link) -> bool:
        return link.waiting and asyncio.get_running_loop().time() - link.asked_s > _OVERDUE_S

    async def _drop(self, link: _Link) -> None:
        if self._link is link:
            self._link = None
        if link.reader is not None:
            link.reader.cancel()
            await asyncio.wait([link.reader], timeout=_LET_GO_S)

    def _lost(self, error: Exception) -> HearingError:
        if isinstance(error, websockets.ConnectionClosed) and error.rcvd is not None and error.rcvd.reason:
            reason = _REASONS.get(error.rcvd.reason)
            if reason is None and error.rcvd.code == 1008:
                reason = refusal(None, {"error": error.rcvd.reason})[0]
            return self._error(reason or "closed", f"the connection was closed: {error.rcvd.reason[:300]}")
        return self._error("closed", f"the connection was lost: {error}")

    def _again(self, error: HearingError) -> HearingError:
        """An exception of its own for each who asks."""
        return HearingError(str(error), route=self.name, reason=error.reason)

    def _error(self, reason: SpeechFailure, what: str) -> HearingError:
        host = urlsplit(self.url).netloc.rpartition("@")[2]
        what = without_key(what, self._key)
        return HearingError(f"ElevenLabs at {host}: {what}", route=self.name, reason=reason)

"""`python -m backend.simulator.elevenlabs`: an ElevenLabs on this machine that really speaks.

Text-to-speech over HTTP and both WebSockets, with and without timestamps, the account and the voices; mp3,
ulaw, alaw and pcm. The voice is the embedded one, whatever voice is asked for. Realtime speech-to-text by
the embedded recogniser.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import logging
import math
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import uvicorn
from fastapi import FastAPI, Header, Query, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

from backend import __version__
from backend.errors import SpeechError
from backend.simulator.elevenlabs_account import MODELS, Account, Refused
from backend.simulator.elevenlabs_formats import Piece, content_type, encoded, pieces
from backend.simulator.elevenlabs_hearing import HearingSocket, Transcriber
from backend.simulator.elevenlabs_sockets import Pace, SpeechSocket
from backend.simulator.elevenlabs_voice import Speech, VendorVoice
from backend.stt.local import LocalTranscriber

_CHUNK_MS = 100.0
Key = Annotated[str | None, Header(alias="xi-api-key")]
Format = Annotated[str, Query()]
_DEFAULT_FORMAT = "mp3_44100_128"
_SPEECH = "/v1/text-to-speech/{voice_id}"


class SpeechBody(BaseModel):
    """What is to be spoken; settings that this voice does not have are taken and left."""

    text: str
    model_id: str = "eleven_multilingual_v2"
    language_code: str | None = None
    previous_text: str | None = None
    next_text: str | None = None


def create_app(
    account: Account, voice: VendorVoice, *, pace: Pace | None = None, ears: Transcriber | None = None
) -> FastAPI:
    """The stand-in as an ASGI application. `app.state.asked` keeps the bodies of the last 1000 requests.

    Without `ears` it does not hear.
    """
    rate = pace or Pace()

    app = FastAPI(title="ElevenLabs stand-in")
    app.state.asked = []

    def admit(voice_id: str, body: SpeechBody, key: str | None, output_format: str) -> None:
        account.check_key(key)
        account.check_request(voice_id=voice_id, model_id=body.model_id, output_format=output_format)
        with account.generating():
            account.charge(body.text, body.model_id)
        del app.state.asked[:-999]
        app.state.asked.append(body.model_dump(exclude_none=True))

    @app.post(f"{_SPEECH}/stream", response_model=None)
    @app.post(_SPEECH, response_model=None)
    async def speak(
        voice_id: str, body: SpeechBody, xi_api_key: Key = None, output_format: Format = _DEFAULT_FORMAT
    ) -> StreamingResponse:
        admit(voice_id, body, xi_api_key, output_format)
        spoken = _spoken(account, voice, rate, body.text, output_format)
        return StreamingResponse(
            (piece.data async for _, piece in spoken), media_type=content_type(output_format)
        )

    @app.post(f"{_SPEECH}/stream/with-timestamps", response_model=None)
    async def speak_timed(
        voice_id: str, body: SpeechBody, xi_api_key: Key = None, output_format: Format = _DEFAULT_FORMAT
    ) -> StreamingResponse:
        admit(voice_id, body, xi_api_key, output_format)
        spoken = _spoken(account, voice, rate, body.text, output_format)
        lines = (_line(_timed(said, piece)) async for said, piece in spoken)
        return StreamingResponse(lines, media_type="application/json")

    @app.post(f"{_SPEECH}/with-timestamps")
    async def speak_whole_timed(
        voice_id: str, body: SpeechBody, xi_api_key: Key = None, output_format: Format = _DEFAULT_FORMAT
    ) -> dict[str, object]:
        admit(voice_id, body, xi_api_key, output_format)
        with account.generating():
            said = await voice.say(body.text)
            data = await asyncio.to_thread(encoded, said.pcm16, output_format)
            await asyncio.sleep(rate.delay_s(said.duration_ms))
        return _timed(said, Piece(data, 0.0, math.inf))

    @app.get("/v1/user/subscription")
    async def subscription(xi_api_key: Key = None) -> dict[str, object]:
        account.check_key(xi_api_key)
        return account.subscription()

    @app.get("/v1/voices")
    async def voices(xi_api_key: Key = None) -> dict[str, object]:
        account.check_key(xi_api_key)
        return {"voices": [_voice(voice_id, name) for voice_id, name in account.voices.items()]}

    @app.get("/v1/voices/{voice_id}")
    async def voice_of_id(voice_id: str, xi_api_key: Key = None) -> dict[str, object]:
        account.check_key(xi_api_key)
        if voice_id not in account.voices:
            raise Refused(404, "voice_not_found", f"A voice with the voice_id {voice_id} was not found.")
        return _voice(voice_id, account.voices[voice_id])

    @app.get("/v1/models")
    async def models(xi_api_key: Key = None) -> list[dict[str, object]]:
        account.check_key(xi_api_key)
        return [{"model_id": name, "name": name, "can_do_text_to_speech": True} for name in MODELS]

    @app.websocket("/v1/text-to-speech/{voice_id}/{kind}")
    async def speech_socket(websocket: WebSocket, voice_id: str, kind: str) -> None:
        await websocket.accept()
        if kind not in ("stream-input", "multi-stream-input"):
            await websocket.close(1008, "not_found")
            return
        multi = kind == "multi-stream-input"
        await SpeechSocket(websocket, account, voice, rate, voice_id=voice_id, multi=multi).serve()

    if ears is not None:

        @app.websocket("/v1/speech-to-text/realtime")
        async def hearing_socket(websocket: WebSocket) -> None:
            await websocket.accept()
            await HearingSocket(websocket, account, ears).serve()

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return JSONResponse(error.body(), status_code=error.status)

    @app.exception_handler(RequestValidationError)
    async def bad_request(_: Request, error: RequestValidationError) -> JSONResponse:
        told = [{"loc": list(e["loc"]), "msg": e["msg"], "type": e["type"]} for e in error.errors()]
        return JSONResponse({"detail": told}, status_code=422)

    return app


async def _spoken(
    account: Account, voice: VendorVoice, pace: Pace, text: str, output_format: str
) -> AsyncIterator[tuple[Speech, Piece]]:
    """The speech, and each piece of it when its time has come."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    with account.generating():
        said = await voice.say(text)
        for piece in await asyncio.to_thread(
            lambda: list(pieces(said.pcm16, output_format, each_ms=_CHUNK_MS))
        ):
            await asyncio.sleep(began_s + pace.delay_s(piece.from_ms) - loop.time())
            yield said, piece


def _timed(said: Speech, piece: Piece) -> dict[str, object]:
    """A piece of sound with its characters, as the vendor words it: timed from the speech's beginning."""
    alignment = said.seconds_of_characters(piece.from_ms, piece.until_ms)
    return {
        "audio_base64": base64.b64encode(piece.data).decode(),
        "alignment": alignment,
        "normalized_alignment": alignment,
    }


def _line(fields: dict[str, object]) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def _voice(voice_id: str, name: str) -> dict[str, object]:
    return {"voice_id": voice_id, "name": name, "category": "premade", "labels": {}}


def server_config(
    app: FastAPI,
    *,
    log_level: str = "warning",
    certificate: Path | None = None,
    certificate_key: Path | None = None,
) -> uvicorn.Config:
    """How it is served: as the vendor does, without compression on the sockets; with TLS if there is a
    certificate."""
    return uvicorn.Config(
        app,
        ssl_certfile=certificate,
        ssl_keyfile=certificate_key,
        log_level=log_level,
        access_log=False,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=1,
    )


def main(arguments: list[str] | None = None) -> int:
    """Serve until interrupted. → exit status: 0, or 2 with one sentence on standard error."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=options.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    account = Account(
        api_key=options.api_key,
        character_limit=options.character_limit,
        concurrency=options.concurrency,
        silent_quota=not options.loud_quota,
    )
    pace = Pace(first_audio_ms=options.first_audio_ms, times_real_time=options.pace)
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((options.host, options.port))
            listener.listen(128)
        except OSError as error:
            print(f"elevenlabs: cannot listen on {options.host}:{options.port}: {error}", file=sys.stderr)
            return 2
        host, port = listener.getsockname()[:2]
        scheme = "http" if options.certificate is None else "https"
        print(f"ELEVENLABS_BASE_URL={scheme}://{host}:{port}", flush=True)
        print(f"ELEVENLABS_API_KEY={options.api_key}", flush=True)
        print(f"voices: {', '.join(account.voices)}", flush=True)
        voice = VendorVoice()
        ears = LocalTranscriber()
        try:
            voice.say_now("Ready.")
            app = create_app(account, voice, pace=pace, ears=ears)
            config = server_config(
                app,
                log_level=options.log_level,
                certificate=options.certificate,
                certificate_key=options.certificate_key,
            )
            if config.is_ssl:
                config.load()
            uvicorn.Server(config).run(sockets=[listener])
        except SpeechError as error:
            print(f"elevenlabs: {error}", file=sys.stderr)
            return 2
        except OSError as error:  # also what is no certificate, and a key that does not fit
            print(f"elevenlabs: --certificate {options.certificate}: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            return 0
        finally:
            voice.close()
            ears.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m backend.simulator.elevenlabs", description=__doc__)
    parser.add_argument("--version", action="version", version=f"voice-agent {__version__}")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8300, help="0: any free one (default: %(default)s)")
    parser.add_argument("--api-key", default="local-key", help='"" takes any key (default: %(default)s)')
    parser.add_argument("--character-limit", type=int, default=100_000, help="the account's credit")
    parser.add_argument("--concurrency", type=int, default=10, help="utterances made at once")
    parser.add_argument(
        "--loud-quota", action="store_true", help="sockets out of credit say so, instead of falling silent"
    )
    parser.add_argument("--first-audio-ms", type=float, default=75.0, help="wait for the first sound")
    parser.add_argument("--pace", type=float, default=10.0, help="speed, as a multiple of real time")
    parser.add_argument("--certificate", type=Path, metavar="PEM", help="speak TLS (https, wss) with it")
    parser.add_argument(
        "--certificate-key", type=Path, metavar="PEM", help="its key, if not in the same file"
    )
    parser.add_argument("--log-level", default="warning", choices=("debug", "info", "warning", "error"))
    return parser


if __name__ == "__main__":
    sys.exit(main())

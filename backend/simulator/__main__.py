"""`python -m backend.simulator`: the Telnyx stand-in as a process of its own."""

from __future__ import annotations

import argparse
import logging
import socket
import sys
from pathlib import Path

import uvicorn

from backend import __version__
from backend.errors import BackendError
from backend.extras import install_command
from backend.simulator.carrier import Carrier, CarrierConfig
from backend.simulator.media_leg import MediaFaults
from backend.simulator.orders import CallTimes
from backend.simulator.server import create_app
from backend.simulator.voice import CallerVoice
from backend.simulator.webhooks import WebhookPolicy

_KEY = "KEY-of-the-stand-in"


def main(arguments: list[str] | None = None) -> int:
    """Serve until interrupted. → exit status: 0, or 2 with one sentence on standard error."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=options.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        return _serve(options)
    except (BackendError, _CannotStart) as error:
        print(f"simulator: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0


class _CannotStart(Exception):
    """One sentence: what is in the way and what to do."""


def _serve(options: argparse.Namespace) -> int:
    with _listen(options.host, options.port) as sock:
        try:
            from backend.stt.local import LocalTranscriber

            ears = LocalTranscriber()
        except ImportError as error:
            raise _CannotStart(
                f"the caller's recogniser is not installed; run: {install_command('local')}"
            ) from error
        voice = CallerVoice()
        carrier = Carrier(_config(options), voice=voice, ears=ears)
        if options.public_key_out is not None:
            _write(options.public_key_out, carrier.webhooks.public_key + "\n")
        host, port = sock.getsockname()[:2]
        print(f"Telnyx stand-in: http://{host}:{port}/v2, control http://{host}:{port}/sim", flush=True)
        print(f"TELNYX_PUBLIC_KEY={carrier.webhooks.public_key}", flush=True)
        # Its own key is no secret; one that it was given may be, and whoever gave it knows it.
        told = {_KEY: _KEY, "": "any"}.get(options.api_key, "<as given>")
        print(f"TELNYX_API_KEY={told}", flush=True)
        server = uvicorn.Server(
            uvicorn.Config(
                create_app(carrier),
                log_level=options.log_level,
                access_log=False,
                ws="none",
                timeout_graceful_shutdown=1,
            )
        )
        try:
            server.run(sockets=[sock])
        finally:
            voice.close()
            ears.close()
    return 0


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(128)
    except OSError as error:
        sock.close()
        raise _CannotStart(
            f"cannot listen on {host}:{port}: {error.strerror}; "
            "end the other program or choose another port with --port"
        ) from error
    return sock


def _config(options: argparse.Namespace) -> CarrierConfig:
    return CarrierConfig(
        webhook_url=options.webhook_url,
        api_key=options.api_key or None,
        connection_id=options.connection_id,
        out_dir=options.out,
        webhooks=WebhookPolicy(duplicate=options.duplicate_webhooks, reorder=options.reorder_webhooks),
        faults=MediaFaults(lose=options.lose_frames, shuffle=options.shuffle_frames),
        times=CallTimes(longest_call_s=options.longest_call_s),
    )


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
    except OSError as error:
        raise _CannotStart(f"cannot write the public key to {path}: {error.strerror}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m backend.simulator",
        description="A Telnyx stand-in with scripted callers: set TELNYX_BASE_URL to its /v2.",
    )
    parser.add_argument("--version", action="version", version=f"voice-agent {__version__}")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8090, help="0 takes any free port (default: 8090)")
    parser.add_argument(
        "--webhook-url",
        default="http://127.0.0.1:8080/webhooks/telnyx",
        help="where the backend takes Telnyx events (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write every call's WAV and JSON there")
    parser.add_argument("--public-key-out", type=Path, metavar="FILE", help="write the webhook key there")
    parser.add_argument(
        "--api-key", default=_KEY, help='the bearer key that /v2 wants; "" takes any (default: %(default)s)'
    )
    parser.add_argument("--connection-id", default="simulated-connection")
    parser.add_argument("--longest-call-s", type=_positive, default=900.0, help="calls are cut after this")
    faults = parser.add_argument_group("faults")
    faults.add_argument("--duplicate-webhooks", action="store_true", help="deliver every event twice")
    faults.add_argument("--reorder-webhooks", action="store_true", help="let events overtake each other")
    faults.add_argument("--lose-frames", type=_chance, default=0.0, metavar="0..1")
    faults.add_argument("--shuffle-frames", type=_chance, default=0.0, metavar="0..1")
    parser.add_argument("--log-level", default="warning", choices=("debug", "info", "warning", "error"))
    return parser


def _chance(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a chance from 0 to 1")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


if __name__ == "__main__":
    sys.exit(main())

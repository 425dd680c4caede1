"""The composition root, the only file that names engines: choose, open the port, load, serve, end cleanly."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import uvicorn

from runpod_server.api.app import create_api, max_socket_message_bytes
from runpod_server.api.audio_store import AudioStore
from runpod_server.api.connections import Connections
from runpod_server.api.metrics import Metrics
from runpod_server.api.patience import SEND_DEADLINE_S
from runpod_server.api.speakers import bound_speakers, unbound_notice
from runpod_server.api.utterance import Service
from runpod_server.engine.csm import chunked_engine, csm_engine
from runpod_server.engine.csm_here import why_not_csm
from runpod_server.engine.csm_source import CsmSource
from runpod_server.engine.preview import PreviewEngine
from runpod_server.engine.request import Engine
from runpod_server.errors import EngineUnavailable, PortUnavailable, StartError
from runpod_server.extras import install_command
from runpod_server.settings import Settings
from runpod_server.voices.shipped import open_voices
from runpod_server.voices.store import VoiceStore
from runpod_server.wire import Limits

log = logging.getLogger(__name__)

_BACKLOG = 1024
_PING_INTERVAL_S = 20.0
_CLOSING_S, _GRACE_S = 1.0, 3
_DEAD_PEER_MS = 60_000


def choose_engine(settings: Settings) -> Engine:
    """The engine that ENGINE names; empty: what this machine can run. Loads nothing yet.

    Raises EngineUnavailable.
    """
    references = open_voices(settings.voices_dir)
    name, why = settings.engine, ""
    if not name:
        missing = why_not_csm(
            settings.csm_model, device=settings.device, has_token=settings.hf_token is not None
        )
        name, why = ("csm", "") if missing is None else ("preview", f"ENGINE is empty, and {missing}")
    if name == "preview":
        return PreviewEngine(
            max_streams=settings.max_streams, max_queue=settings.max_queue, why=why, references=references
        )
    return _csm_engine(name, settings, references)


def _csm_engine(name: str, settings: Settings, references: VoiceStore) -> Engine:
    if find_spec("torch") is None or find_spec("transformers") is None:
        raise EngineUnavailable(
            f"ENGINE={name} needs torch and transformers: {install_command('csm')}, or set ENGINE=preview"
        )
    source = CsmSource(
        settings.csm_model,
        device=settings.device,
        dtype=settings.dtype,
        token=settings.hub_token,
        cuda_graphs=settings.cuda_graphs,
        weights=settings.csm_weights,
    )
    if name == "csm-chunked":
        if source.weights != "full":
            raise EngineUnavailable(
                f"CSM_WEIGHTS={source.weights} is for ENGINE=csm: set that, or CSM_WEIGHTS=full"
            )
        return chunked_engine(source, max_queue=settings.max_queue, references=references)
    return csm_engine(
        source, max_streams=settings.max_streams, max_queue=settings.max_queue, references=references
    )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; clients that come before the server accepts wait in its backlog.

    Raises PortUnavailable with a sentence that says what to do.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # accepted sockets inherit it
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_PEER_MS)
            listener.bind(address)
            listener.listen(_BACKLOG)
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise PortUnavailable(_why_no_port(host, port, error)) from error
    return listener


def _why_no_port(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is in use: stop the other program, or choose another with PORT or --port"
        )
    if error.errno == errno.EACCES:
        return f"port {port} may not be opened by this user: choose one above 1023 with PORT or --port"
    return f"cannot listen on {host}:{port} ({error}): check HOST and PORT"


class _Uvicorn(uvicorn.Server):
    """Signals are the command line's business: here `stop` ends the server."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    settings: Settings,
    engine: Engine,
    listener: socket.socket,
    stop: asyncio.Event,
    *,
    send_deadline_s: float = SEND_DEADLINE_S,
) -> None:
    """Serve on `listener` until `stop` is set. /health says "loading" until the engine is warm.

    Raises StartError when the engine cannot be loaded.
    """
    metrics = Metrics(engine)
    limits = Limits(max_text_chars=settings.max_text_chars, chunk_samples=settings.chunk_samples)
    service = Service(engine, limits, metrics, settings.api_key, send_deadline_s)
    connections = Connections(
        max_total=settings.max_connections,
        max_per_client=settings.max_connections_per_client,
        metrics=metrics,
    )
    server = _Uvicorn(_uvicorn_config(service, connections))
    failures: list[StartError] = []
    _announce(settings, engine, listener)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve(sockets=[listener]))
        loading = tasks.create_task(_load(engine, stop, failures))
        await stop.wait()
        loading.cancel()
        await connections.close_all(_CLOSING_S)  # before uvicorn closes what is open with a code of its own
        server.should_exit = True
    await engine.close()
    if failures:
        raise failures[0]


async def _load(engine: Engine, stop: asyncio.Event, failures: list[StartError]) -> None:
    try:
        await engine.load()
    except StartError as error:
        failures.append(error)
        stop.set()
    else:
        log.info("engine %s (%s) is loaded and warm", engine.name, engine.model)


def _uvicorn_config(service: Service, connections: Connections) -> uvicorn.Config:
    return uvicorn.Config(
        create_api(service, connections, AudioStore()),
        ws="websockets-sansio",
        ws_max_size=max_socket_message_bytes(service),
        ws_per_message_deflate=False,
        ws_ping_interval=_PING_INTERVAL_S,
        # No pong deadline: a client that plays at the speed of speech answers a ping only after the sound
        # before it. Dead peers are found by TCP_USER_TIMEOUT, stalled ones by the deadline on every send.
        ws_ping_timeout=None,
        lifespan="off",
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=_GRACE_S,
        server_header=False,
    )


def _announce(settings: Settings, engine: Engine, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    log.info("speech server on http://%s:%d, engine %s; Ctrl-C stops it", host, port, engine.name)
    if engine.notice:
        log.warning(engine.notice)
    if engine.uses_references and (bound := bound_speakers(engine)):
        log.info("speakers: %s", ", ".join(f"{speaker} {name}" for speaker, name in bound.items()))
    if unbound := unbound_notice(engine):
        log.warning(unbound)
    if settings.api_key is None and not host.startswith("127."):
        log.warning("SESAME_API_KEY is not set: anyone who reaches port %d can use this server", port)

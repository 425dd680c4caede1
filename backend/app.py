"""The composition root: the only file that names providers, and ties settings to parts."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial

import uvicorn
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from backend import __version__
from backend.calls.boards.ears_board import EarsBoard
from backend.calls.boards.llm_board import LlmBoard
from backend.calls.boards.route_board import RouteBoard
from backend.calls.flow_actions import NOT_CONNECTED
from backend.calls.manager import CallManager
from backend.calls.ports import CallParts, MelodyJudge, Transcriber
from backend.calls.speaking.prepare import Preparer
from backend.core.agent import Agent
from backend.core.agent_secrets import unset_secrets
from backend.core.cost import parse_prices
from backend.core.urls import websocket_url
from backend.errors import ConfigError
from backend.hearing_routes import HearingRoutes
from backend.settings import Settings, load_agent_secrets, missing, secret_value
from backend.speech_routes import SpeechRoutes
from backend.storage.agent_files import AgentFiles
from backend.storage.calls import CallStore
from backend.storage.prompts import PromptStore
from backend.stt.absent import AbsentTranscriber
from backend.stt.vad import VoiceActivity
from backend.supervision import Supervisor
from backend.telnyx.control import CallControl
from backend.telnyx.webhooks import WebhookVerifier
from backend.thinking import Thinking
from backend.web.agents import agents_router
from backend.web.auth import make_guard
from backend.web.calls import calls_router
from backend.web.errors import install_error_handlers
from backend.web.health import health_router
from backend.web.llm_metrics import LlmMetrics
from backend.web.media import media_router
from backend.web.metrics import Metrics, metrics_router
from backend.web.pages import pages_router
from backend.web.webhooks import webhooks_router

log = logging.getLogger(__name__)

_RELOAD_EVERY_S = 2.0
_MAX_BODY_BYTES = 1 << 20


def now_ms() -> float:
    """The process's monotonic clock, milliseconds."""
    return time.monotonic() * 1000


def local_transcriber(stack: AsyncExitStack) -> Transcriber:
    """The embedded recogniser, which `stack` closes; one that says what to install where there is none."""
    from backend.stt.local import LocalTranscriber

    try:
        transcriber = LocalTranscriber()
    except ImportError:
        return AbsentTranscriber()
    stack.callback(transcriber.close)
    return transcriber


def melody_judge(settings: Settings, stack: AsyncExitStack) -> MelodyJudge | None:
    """The turn model that the settings name; `stack` closes it. Raises ConfigError when it is none."""
    if settings.smart_turn_model is None:
        return None
    from backend.stt.smart_turn import SmartTurn

    model = SmartTurn(settings.smart_turn_model)
    stack.callback(model.close)
    return model.judge


def open_prompts(settings: Settings) -> PromptStore:
    """Where prompts are kept; in memory when the folder cannot be used, which is logged. Reads the folder."""
    return PromptStore.open(settings.prompts_dir, max_bytes=settings.prompts_max_mb << 20)


@asynccontextmanager
async def preparing(settings: Settings, prompts: PromptStore, agents: list[Agent]) -> AsyncIterator[Preparer]:
    """What makes prompts, without the calls."""
    async with SpeechRoutes(settings, RouteBoard(now_ms), lambda: agents, now_ms) as routes:
        yield Preparer(prompts, routes.plans_ahead, maker=routes.maker, clock=now_ms, also=[NOT_CONNECTED])


async def compose(settings: Settings, stack: AsyncExitStack) -> FastAPI:
    """Everything built and connected; `stack` undoes it in the right order.

    Raises ConfigError and StorageError, each with what to do.
    """
    guard = make_guard(api_key=secret_value(settings.api_key), host=settings.host)
    verifier = WebhookVerifier(settings.telnyx_public_key) if settings.telnyx_public_key else None
    agents = AgentFiles(settings.agents_dir)
    agents.load()
    store = await CallStore.open(settings.database_url)
    stack.push_async_callback(store.close)
    transcriber = local_transcriber(stack)
    carrier = CallControl(
        api_key=secret_value(settings.telnyx_api_key) or "",
        base_url=settings.telnyx_base_url,
        connection_id=settings.telnyx_connection_id or "",
    )
    stack.push_async_callback(carrier.aclose)
    metrics = Metrics()
    supervisor = Supervisor(metrics.background_failed)
    board = RouteBoard(now_ms, metrics)
    routes = await stack.enter_async_context(SpeechRoutes(settings, board, agents.all, now_ms, supervisor))
    metrics.watch_speech(routes.health_now)
    hearing = HearingRoutes(settings, EarsBoard(now_ms, metrics), agents.all, now_ms, transcriber)
    stack.push_async_callback(hearing.aclose)
    metrics.watch_hearing(hearing.health_now)
    hearing.must_hear_somebody()
    secrets = load_agent_secrets(settings)
    llm_metrics = LlmMetrics(metrics.registry)
    thinking = Thinking(settings, secrets, LlmBoard(now_ms, llm_metrics), agents.all)
    stack.push_async_callback(thinking.aclose)
    llm_metrics.watch(thinking.health_now)
    prompts = await asyncio.to_thread(open_prompts, settings)
    preparer = Preparer(
        prompts,
        routes.plans_ahead,
        maker=routes.maker,
        clock=now_ms,
        busy=lambda: manager.live_calls > 0,
        also=[NOT_CONNECTED],
    )
    parts = CallParts(
        carrier=carrier,
        store=store,
        transcriber=transcriber,
        make_detector=VoiceActivity,
        plan_routes=routes.plans,
        board=board,
        clock=now_ms,
        observer=metrics,
        media_url=websocket_url(settings.public_url or f"http://{settings.host}:{settings.port}", "/media"),
        prepared=preparer.voice,
        make_ears=hearing.ears,
        language_model=thinking.language_model,
        toolbox=thinking.toolbox,
        llm_answered=metrics.llm_answered,
        webhook=thinking.webhook if settings.webhook_actions else None,
        prices=parse_prices(settings.prices_usd),
        judge_melody=melody_judge(settings, stack),
        timezone=settings.timezone,
    )
    manager = CallManager(parts, carrier, agents, from_number=settings.telnyx_from_number)
    await stack.enter_async_context(manager)
    for run, name in ((preparer.run, "prompts"), (partial(_keep_fresh, agents, preparer), "agents")):
        task = asyncio.create_task(supervisor.keep(name, run), name=name)
        stack.push_async_callback(_cancel, task)

    app = FastAPIOffline(
        title="Voice agent",
        version=__version__,
        docs_url="/docs",
        redoc_url=None,
        max_body_size=_MAX_BODY_BYTES,
    )
    install_error_handlers(app)
    app.include_router(webhooks_router(manager, verifier, metrics))
    app.include_router(media_router(manager))
    app.include_router(calls_router(manager, store, agents, guard))
    app.include_router(agents_router(agents, guard))
    known_carrier = carrier if settings.telnyx_api_key else None
    app.include_router(
        health_router(
            manager,
            routes,
            store,
            known_carrier,
            guard,
            version=__version__,
            hearing=hearing.health_now,
            thinking=thinking.health_now,
            voices=routes.chains,
            problems=lambda: [*map(str, agents.problems), *supervisor.problems()],
        )
    )
    app.include_router(metrics_router(metrics))
    app.include_router(pages_router(version=__version__))
    _say_what_is_missing(settings, agents, routes, hearing)
    _say_what_cannot_think(agents, thinking, secrets)
    return app


async def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; live calls are then hung up and stored.

    Raises ConfigError (also for a port that cannot be had) and StorageError.
    """
    listener = _listen(settings.host, settings.port)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        async with AsyncExitStack() as stack:
            server = _Uvicorn(_uvicorn_config(await compose(settings, stack)))
            serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
            host, port = listener.getsockname()[:2]
            log.info("listening on http://%s:%d (API: /docs, health: /api/v1/health)", host, port)
            await stop.wait()
            log.info("stopping: live calls are hung up and stored")
            await stack.aclose()
            server.should_exit = True
            await serving
    finally:
        listener.close()
    log.info("stopped")


class _Uvicorn(uvicorn.Server):
    """Signals are ours: calls must be ended before the sockets are closed."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _uvicorn_config(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_max_size=1 << 20,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=3,
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, or asyncio would leave Nagle's algorithm on for what is accepted: frames 40 ms late.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"port {port} on {host} is in use: stop the other program, or choose another with PORT"
            ) from error
        raise ConfigError(f"cannot listen on {host}:{port} ({error}): check HOST and PORT") from error
    return listener


async def _keep_fresh(agents: AgentFiles, preparer: Preparer) -> None:
    """Take up changed agent files without a restart."""
    while True:
        preparer.take_up(agents.all())
        await asyncio.sleep(_RELOAD_EVERY_S)
        await asyncio.to_thread(agents.reload_changed)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _say_what_is_missing(
    settings: Settings, agents: AgentFiles, routes: SpeechRoutes, hearing: HearingRoutes
) -> None:
    for sentence in missing(settings):
        log.warning(sentence)
    for agent in agents.all():
        routes.plans_ahead(agent)  # says which routes it goes without
        hearing.plans(agent)  # likewise


def _say_what_cannot_think(agents: AgentFiles, thinking: Thinking, secrets: Mapping[str, str]) -> None:
    for agent in agents.all():
        if (lack := thinking.lack(agent)) is not None:
            log.warning("agent %s: %s", agent.id, lack)
        for sentence in unset_secrets(agent, secrets):
            log.warning(sentence)

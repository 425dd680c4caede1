"""The whole system on this machine: speech server, Telnyx stand-in and backend as three processes.

Starts them on free ports in an environment of their own (neither the caller's settings nor a `.env` reach
them), waits until each is healthy, and stops them whatever happens. Knows nothing of calls.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import sys
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import httpx

from backend.errors import BackendError
from backend.simulator.backend_log import about, warnings_in

# What a program needs of its surroundings; every setting of ours and every proxy stays outside.
_INHERITED = (
    "PATH", "HOME", "USER", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH",
    "PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "XDG_CACHE_HOME",
)  # fmt: skip
_LOG_TAIL_LINES = 15
_STOP_S = 6.0
_ALREADY_RUNS_S = 10.0
_PROBE_S = 0.05
CONNECTION_ID = "simulated-connection"
BACKEND_NUMBER = "+15550100001"


class StackError(BackendError):
    """A process did not start, or ended by itself; the message shows the end of its log."""


@dataclass(frozen=True, slots=True)
class StackConfig:
    """Where things are. `speech_url`: a speech server that already runs, instead of one of our own.
    `settings`: further ones of the backend; which win: none by which it could reach the world."""

    run_dir: Path
    agents_dir: Path
    speech_url: str | None = None
    speech_key: str | None = None
    ready_s: float = 60.0
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Child:
    name: str
    process: asyncio.subprocess.Process
    log_path: Path
    log: IO[bytes]

    def tail(self) -> str:
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-_LOG_TAIL_LINES:]) or "    (it wrote nothing)"


class Stack:
    """`async with Stack(config) as stack:` all three are healthy inside, and gone afterwards."""

    def __init__(self, config: StackConfig) -> None:
        self.config = config
        self.api_key = secrets.token_urlsafe(24)
        self._children: list[_Child] = []
        self._warned: set[str] = set()
        self._exit = AsyncExitStack()
        speech_port, carrier_port, backend_port = _free_ports(3)
        self.speech_url = (config.speech_url or f"http://127.0.0.1:{speech_port}").rstrip("/")
        self.carrier_url = f"http://127.0.0.1:{carrier_port}"
        self.backend_url = f"http://127.0.0.1:{backend_port}"

    async def __aenter__(self) -> Self:
        try:
            self.config.run_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StackError(f"{self.config.run_dir} cannot be made: {error.strerror}") from error
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    @property
    def carrier(self) -> httpx.AsyncClient:
        """The stand-in's control API; events are long-polled."""
        return self._carrier

    @property
    def backend(self) -> httpx.AsyncClient:
        """The backend's API, with its key."""
        return self._backend

    async def warnings(self, agent_ids: Collection[str]) -> list[str]:
        """What the backend warned of since this was last asked, but for what concerns other agents alone."""
        log_path = next((child.log_path for child in self._children if child.name == "backend"), None)
        if log_path is None:
            return []
        found = warnings_in(log_path.read_text(encoding="utf-8", errors="replace"))
        if self.config.speech_url is None:  # it was asked for
            found = [message for message in found if "preview voice" not in message]
        new = [message for message in found if message not in self._warned]
        self._warned.update(new)
        if not new:
            return []
        reply = await self._backend.get("/api/v1/agents")
        known = [str(agent["id"]) for agent in reply.json().get("agents", [])]
        return about(new, agent_ids, known)

    async def watch(self) -> None:
        """Returns only when none is left. Raises StackError once a process ended by itself."""
        waits = {asyncio.ensure_future(child.process.wait()): child for child in self._children}
        try:
            while waits:
                done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for child in map(waits.pop, done):
                    if child in self._children:  # else it was stopped on purpose
                        raise self._died(child)
        finally:
            for wait in waits:
                wait.cancel()

    async def stop_speech_server(self) -> None:
        """Take the speech server away, as a crashed pod would. Raises StackError when it is not ours."""
        for child in self._children:
            if child.name == "speech server":
                self._children.remove(child)
                await _end(child)
                return
        raise StackError(f"the speech server at {self.speech_url} was not started here")

    async def _start(self) -> None:
        self._carrier = await self._client(self.carrier_url, read_s=15.0)
        self._backend = await self._client(
            self.backend_url, read_s=10.0, headers={"Authorization": f"Bearer {self.api_key}"}
        )
        speech = await self._client(self.speech_url, read_s=5.0)
        if self.config.speech_url is None:
            await self._spawn("speech server", "runpod_server", env=self._speech_env())
        else:
            await self._ready("speech server", speech, "/health")
        await self._spawn("Telnyx stand-in", "backend.simulator", *self._carrier_arguments())
        carrier = await self._ready("Telnyx stand-in", self._carrier, "/sim/health")
        await self._spawn("backend", "backend", env=self._backend_env(str(carrier["public_key"])))
        await self._ready("speech server", speech, "/health")
        await self._ready("backend", self._backend, "/api/v1/health")

    async def _client(
        self, base_url: str, *, read_s: float, headers: Mapping[str, str] | None = None
    ) -> httpx.AsyncClient:
        return await self._exit.enter_async_context(
            httpx.AsyncClient(
                base_url=base_url, headers=headers, timeout=httpx.Timeout(5.0, read=read_s), trust_env=False
            )
        )

    def _speech_env(self) -> dict[str, str]:
        url = httpx.URL(self.speech_url)
        return {"ENGINE": "preview", "HOST": url.host, "PORT": str(url.port), "LOG_LEVEL": "INFO"}

    def _carrier_arguments(self) -> tuple[str, ...]:
        return (
            "--port", str(httpx.URL(self.carrier_url).port),
            "--webhook-url", f"{self.backend_url}/webhooks/telnyx",
            "--api-key", self._telnyx_key,
            "--connection-id", CONNECTION_ID,
        )  # fmt: skip

    def _backend_env(self, public_key: str) -> dict[str, str]:
        database = self.config.run_dir.resolve() / "calls.sqlite3"
        for leftover in database.parent.glob(f"{database.name}*"):
            leftover.unlink()
        return {
            "HOST": "127.0.0.1",
            "PORT": str(httpx.URL(self.backend_url).port),
            "PUBLIC_URL": self.backend_url,
            "TELNYX_BASE_URL": f"{self.carrier_url}/v2",
            "TELNYX_API_KEY": self._telnyx_key,
            "TELNYX_PUBLIC_KEY": public_key,
            "TELNYX_CONNECTION_ID": CONNECTION_ID,
            "TELNYX_FROM_NUMBER": BACKEND_NUMBER,
            "SESAME_SELF_HOSTED_URL": self.speech_url,
            "SESAME_API_KEY": self.config.speech_key or "",
            "DATABASE_URL": f"sqlite+aiosqlite:///{database}",
            "AGENTS_DIR": str(self.config.agents_dir.resolve()),
            "API_KEY": self.api_key,
            "LOG_LEVEL": "INFO",
            **self.config.settings,
        }

    @property
    def _telnyx_key(self) -> str:
        return f"KEY{self.api_key}"

    async def _spawn(
        self, name: str, module: str, *arguments: str, env: Mapping[str, str] | None = None
    ) -> None:
        run_dir = self.config.run_dir.resolve()
        log_path = run_dir / f"{name.lower().replace(' ', '-')}.log"
        inherited = {key: os.environ[key] for key in _INHERITED if key in os.environ}
        log = log_path.open("wb")
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "backend.simulator.child", str(os.getpid()), module, *arguments,
                cwd=run_dir, env={**inherited, "PYTHONUNBUFFERED": "1", **(env or {})},
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                # A session of its own, so that Ctrl-C reaches us alone and we end them in order.
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            log.close()
            raise StackError(f"the {name} could not be started: {error}") from error
        self._children.append(_Child(name, process, log_path, log))

    async def _ready(self, name: str, client: httpx.AsyncClient, path: str) -> dict[str, Any]:
        """The health document once it is there. Raises StackError when the process dies or the time is up."""
        child = next((child for child in self._children if child.name == name), None)
        problem = "it did not answer"
        patience_s = self.config.ready_s if child else min(self.config.ready_s, _ALREADY_RUNS_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while True:
                    if child is not None and child.process.returncode is not None:
                        raise self._died(child)
                    try:
                        reply = await client.get(path)
                        document: dict[str, Any] = reply.json()
                        if reply.status_code == 200 and document.get("status") != "loading":
                            return document
                        problem = f"{path} says {reply.status_code} {reply.text[:200]}"
                    except httpx.TransportError as error:
                        problem = f"{client.base_url} cannot be reached ({error or type(error).__name__})"
                    except ValueError:
                        problem = f"{path} does not answer with JSON"
                    await asyncio.sleep(_PROBE_S)
        where = (
            f"; the end of {child.log_path}:\n{child.tail()}" if child else "; start it, or mend its address"
        )
        raise StackError(f"the {name} was not ready within {patience_s:.0f} s: {problem}{where}")

    def _died(self, child: _Child) -> StackError:
        code = child.process.returncode
        how = (
            f"was killed by {signal.Signals(-code).name}"
            if code is not None and code < 0
            else f"ended ({code})"
        )
        return StackError(f"the {child.name} {how}; the end of {child.log_path}:\n{child.tail()}")

    async def _stop(self) -> None:
        """The backend first, so that its calls end while the carrier still answers."""
        try:
            for child in reversed(self._children):
                await _end(child)
        finally:
            for child in self._children:
                _kill(child)
            self._children.clear()
            await self._exit.aclose()


async def _end(child: _Child) -> None:
    """Terminate, then kill; the process is gone afterwards."""
    try:
        if child.process.returncode is None:
            with suppress(ProcessLookupError):
                child.process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(_STOP_S):
                    await child.process.wait()
    finally:
        _kill(child)
    await child.process.wait()


def _kill(child: _Child) -> None:
    if child.process.returncode is None:
        with suppress(ProcessLookupError):
            child.process.kill()
    child.log.close()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [int(sock.getsockname()[1]) for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()

"""ENGINE=csm under many clients at once: nothing is left of them, /health answers, they share the work."""

from __future__ import annotations

import asyncio
import gc
import http.client
import json
import os
import random
import re
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[csm]'")
pytest.importorskip("transformers", reason="transformers is not installed: pip install -e '.[csm]'")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from runpod_server.api.session import Session  # noqa: E402
from runpod_server.api.utterance import Utterance  # noqa: E402
from runpod_server.engine.csm import CsmEngine, CsmStream, csm_engine  # noqa: E402
from runpod_server.engine.csm_source import CsmSource  # noqa: E402
from runpod_server.engine.csm_worker import Delivery, Rules, _Speaking  # noqa: E402
from runpod_server.model.csm import CsmRunner  # noqa: E402
from runpod_server.model.prompt import Prompt  # noqa: E402
from runpod_server.model.sampling import Sampling  # noqa: E402
from runpod_server.model.weights import LoadedCsm  # noqa: E402
from runpod_server.voices.store import VoiceStore  # noqa: E402

ROOT = Path(__file__).parents[3]
DEADLINE_S = 40.0
SLOTS = 16


async def remains(engine: CsmEngine) -> dict[str, int]:
    """What would grow if anything were left behind."""

    async def tasks() -> int:
        return len(asyncio.all_tasks())

    assert engine._loop is not None
    gc.collect()
    ours = (CsmStream, _Speaking, Session, Utterance, Delivery)
    alive = gc.get_objects()
    return {
        "tasks": await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(tasks(), engine._loop)),
        "objects of ours": sum(type(each) in ours for each in alive),
        "objects": len(alive),
        "threads": sum(not thread.name.startswith("asyncio") for thread in threading.enumerate()),
    }


async def test_a_thousand_requests_cancelled_and_cut_off_anyhow_leave_nothing(
    start: Any, heard: Any, tiny_folder: Path
) -> None:
    """Over real sockets: WebSockets that cancel, that vanish, that never read, and requests over HTTP."""
    engine = csm_engine(
        CsmSource(tiny_folder, device="cpu"),
        max_streams=SLOTS,
        max_queue=1000,
        references=VoiceStore(),
        rules=Rules(frame_limit=lambda text: 6),
    )
    server = start(engine)
    await server.until_health(lambda health: health["status"] == "healthy")
    draw = random.Random(3)
    asked = ended = 0

    def request() -> str:
        nonlocal asked
        asked += 1
        context = draw.choice([None, None, "a", "b"])
        return json.dumps({"text": f"Request {asked}.", "speaker_id": asked % 10, "context_id": context})

    async def polite() -> None:
        nonlocal ended
        count = draw.randint(2, 8)
        async with server.connect() as socket:
            for _ in range(count):
                await socket.send(request())
                if draw.random() < 0.4:
                    await socket.send('{"cancel": true}')
            for _ in range(count):
                reply = (await heard(socket)).reply
                assert reply["done"] is True
                ended += 1

    async def vanishing() -> None:
        async with server.connect(max_queue=1) as socket:
            count = draw.randint(1, 3)
            for _ in range(count):
                await socket.send(request())
            # One that ends with its first frame is answered by a single message.
            for _ in range(min(count, draw.choice([0, 0, 1, 2]))):
                await socket.recv()
            socket.transport.abort()

    async def over_http() -> None:
        body = {**json.loads(request()), "format": draw.choice(["wav", "base64"])}
        async with server.client() as client:
            asking = asyncio.create_task(client.post("/generate", json=body))
            if draw.random() < 0.5:
                await asyncio.wait({asking}, timeout=draw.random() / 20)
                asking.cancel()
            await asyncio.wait({asking})

    async def all_of(count: int) -> None:
        until = asked + count

        async def one_after_another() -> None:
            while asked < until:
                await draw.choice([polite, polite, polite, vanishing, vanishing, over_http])()

        async with asyncio.TaskGroup() as clients:
            for _ in range(40):
                clients.create_task(one_after_another())
        await server.until_health(
            lambda health: health["streams"]["active"] == health["queue"]["waiting"] == 0
        )
        async with server.connect() as socket:  # after it, the worker has obeyed every command before
            await socket.send(request())
            assert (await heard(socket)).reply["done"] is True
        await server.until_health(lambda health: health["streams"]["active"] == 0)

    await all_of(100)
    before = await remains(engine)
    await all_of(1000)
    after = await remains(engine)
    assert asked >= 1100 and ended >= 300
    assert (after["tasks"], after["threads"]) == (before["tasks"], before["threads"])
    assert after["objects of ours"] <= before["objects of ours"]
    assert after["objects"] - before["objects"] < 2000
    worker: Any = engine.worker
    assert not (engine._open or worker._speaking or worker._reading or worker._commands)
    assert worker._slots.free == SLOTS
    assert len(worker._conversations) == 0, "they end with their connections"
    assert engine.status().state == "healthy"


async def test_health_answers_while_16_streams_run_and_a_signal_ends_them(tiny_folder: Path) -> None:
    """A server in a process of its own, as its user starts it."""
    surroundings = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        "HOST": "127.0.0.1", "PORT": "0", "DEVICE": "cpu", "MAX_STREAMS": str(SLOTS),
        "ENGINE": "csm", "CSM_MODEL": str(tiny_folder),
    }  # fmt: skip
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "runpod_server", env=surroundings, stderr=asyncio.subprocess.PIPE
    )
    said, port = "", 0
    try:
        async with asyncio.timeout(DEADLINE_S):
            assert child.stderr is not None
            while "loaded and warm" not in said:
                said += (await child.stderr.readline()).decode()
                assert child.returncode is None, said
            found = re.search(r"http://127\.0\.0\.1:(\d+)", said)
            assert found is not None
            port = int(found[1])

            async def listen(index: int) -> int | None:
                url = f"ws://127.0.0.1:{port}/ws/generate"
                async with websockets.connect(url, compression=None) as socket:
                    with pytest.raises(websockets.ConnectionClosed):
                        while True:
                            await socket.send(json.dumps({"text": f"Stream {index}. " * 200}))
                            while isinstance(await socket.recv(), bytes):
                                pass
                    return socket.close_code

            listeners = [asyncio.create_task(listen(index)) for index in range(SLOTS)]
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                while (await client.get("/health")).json()["streams"]["active"] < SLOTS:
                    pass
            await asyncio.to_thread(ask_health, port, 200)
            child.send_signal(signal.SIGTERM)
            await child.communicate()
            assert child.returncode == 0
            assert {await each for each in listeners} == {1001}
    finally:
        if child.returncode is None:
            child.kill()
            await child.communicate()


def ask_health(port: int, times: int) -> None:
    """Each is answered while streams are spoken. How fast is measured by `benchmarks/`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    for _ in range(times):
        connection.request("GET", "/health")
        assert json.loads(connection.getresponse().read())["streams"]["active"] > 0
    connection.close()


def test_sixteen_streams_take_as_many_operators_a_frame_as_one(loaded: LoadedCsm) -> None:
    """Whence many times the frames of `generate`: how many is measured by `benchmarks/csm_engine.py`."""
    runner = CsmRunner(loaded.model, slots=SLOTS)
    no_codes = torch.empty(0, runner.shapes.codebooks, dtype=torch.int64)
    for slot in range(SLOTS):
        runner.begin(slot, Sampling(0.9, 50, seed=slot))
        runner.prefill(slot, runner.embed(Prompt(torch.tensor([1, 2, 3]), no_codes)))
    one, all_of_them = (operators_of(runner, slots) for slots in ([0], list(range(SLOTS))))
    assert 100 < all_of_them < 1.1 * one


class _Counting(TorchDispatchMode):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.operators = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators += 1
        return func(*args, **(kwargs or {}))


def operators_of(runner: CsmRunner, slots: list[int]) -> int:
    """How many of torch's operators one frame of these slots takes."""
    with _Counting() as counting:
        runner.step(slots)
    return counting.operators

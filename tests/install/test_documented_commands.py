"""Every command that README and docs show runs here as it is written, or stands in `NOT_RUN` with the reason.

Installed is the wheel with `[local]` and nothing else, and the folder is one that `voice-agent init`
made out of nothing; a speech server, the Telnyx stand-in and a backend are up, as the pages suppose. Two
things differ from what is written: the ports, which may be taken, and that `simulate` forgives a busy
machine its latency.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.install.conftest import Installation
from tests.install.documented import PROGRAMS, ROOT, Block, blocks, commands, inline_commands, mistake

pytestmark = pytest.mark.timeout(300)
SHELL = blocks("sh")
POD = "needs a GPU pod, and a placeholder filled in"
WHERE_FROM = (
    "installs from an address that the reader fills in; tests/install/test_wheel.py installs the wheel"
)
NOT_RUN = {
    "README.md: make demo": ("sets up a virtual environment and runs this suite; tests/e2e hold the demo"),
    "first-call.md: make demo": "the same",
    "README.md: pip install 'sesame-telephony[local] @ git+<address of this repository>'": WHERE_FROM,
    "README.md: pip install 'sesame-telephony[csm,local] @ git+<address of this repository>'": WHERE_FROM,
    "runpod.md: pip install 'sesame-telephony @ git+<address of this repository>'": WHERE_FROM,
    'runpod.md: sed "s|<address of this repository>|$(git remote get-url origin)|"': (
        "needs a RunPod account"
    ),
    "runpod.md: git clone --depth 1 <address of this repository> /workspace/sesame-telephony": POD,
    "runpod.md: docker build -f deploy/runpod/Dockerfile -t <registry>/sesame-server:0.1.0 .": (
        "fetches a CUDA image, and pushes to a registry of the reader's"
    ),
    "runpod.md: export POD=https://<pod id>-8000.proxy.runpod.net SESAME_API_KEY=<the key>": POD,
    "runpod.md: /workspace/sesame/venv-3.11/bin/sesame-server doctor    # A": POD,
    "first-call.md: SESAME_API_KEY=<its key> voice-agent simulate": POD,
    "turn-taking.md: pip download --no-deps pipecat-ai==1.14.0": "fetches a model from the internet",
    "test-an-agent.md: voice-agent eval --audio --jobs 3 --junit junit.xml --html report": (
        "plays every call of every suite in real time; tests/backend/evals run suites with sound"
    ),
    "sesame-server.md: sesame-server bench --streams 1,2,4,8,16,32,64,128,256 --seconds 20": "needs a GPU",
}
# What serves until it is stopped, and the ports at which it must be found.
SERVES = {
    "README.md: export SESAME_API_KEY=$(openssl rand -hex 24)": (8000,),
    "README.md: voice-agent serve": (8080,),
    "survive-a-dying-voice.md: ENGINE=preview HOST=127.0.0.1 PORT=8001 python -m runpod_server &": (
        8001, 8002, 8300, 8080,
    ),
    "elevenlabs-stand-in.md: python -m backend.simulator.elevenlabs --port 8300": (8300,),
    "elevenlabs-stand-in.md: openssl req -x509": (8300,),
    "llm-stand-in.md: python -m backend.simulator.llm --port 8400 --script replies.json": (8400,),
    "simulator.md: python -m backend.simulator --port 8090": (8090,),
}  # fmt: skip
_KEY = "a-long-random-word"


def listed(block: Block, table: Mapping[str, object]) -> str | None:
    return next((name for name in table if block.key.startswith(name)), None)


TAXI = [block for block in SHELL if block.page == "docs/tutorial/taxi-order.md"]
RUN = [block for block in SHELL if not (listed(block, NOT_RUN) or listed(block, SERVES) or block in TAXI)]
SERVED = [block for block in SHELL if listed(block, SERVES)]


def test_the_tables_name_blocks_that_there_are() -> None:
    for name in (*NOT_RUN, *SERVES):
        assert any(block.key.startswith(name) for block in SHELL), name


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.key)
def test_its_commands_options_and_files_exist(block: Block) -> None:
    for words in commands(block.text):
        assert mistake(words) is None, words


def test_commands_within_sentences_exist() -> None:
    found = inline_commands()
    assert len(found) > 20
    for page, text in found:
        for words in commands(text):
            assert words[0] not in PROGRAMS or mistake(words) is None, (page, text)


def test_a_mistake_in_a_command_is_found() -> None:
    for text in (
        "voice-agent evaluate", "voice-agent eval --sound", "FOO=1 sesame-server say --lout x", "make tea",
        "pip install 'sesame-telephony[loco]'", "python -m backend.simulators", "bash deploy/runpod/stop.sh",
    ):  # fmt: skip
        assert [mistake(words) for words in commands(text)] != [None], text


def test_the_pods_template_holds_what_the_page_replaces() -> None:
    (block,) = [block for block in SHELL if "git remote get-url" in block.text]
    wanted = re.search(r"s\|(.*?)\|", block.text)
    assert wanted and wanted.group(1) in (ROOT / "deploy/runpod/template-pytorch.json").read_text()


@dataclass
class World:
    """A folder with what the pages suppose to be there, and the servers that run."""

    installation: Installation
    folder: Path
    ports: dict[int, int]
    settings: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        return self.installation.environment(PYTHONUNBUFFERED="1", **self.settings)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def as_run(text: str, ports: Mapping[int, int]) -> str:
    """A block's text with other ports, and without limits on latency."""
    for written, port in ports.items():
        text = re.sub(rf"(?<=[:= ]){written}\b", str(port), text)
    return text.replace("voice-agent simulate", "voice-agent simulate --lenient-latency")


@contextmanager
def shell_of(
    world: World, text: str, ports: Mapping[int, int], **settings: str
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The text in a shell of its own, and the file of its output. All that it started is gone afterwards."""
    output = world.folder / f"output-{secrets.token_hex(4)}.txt"
    with output.open("wb") as file:
        shell = subprocess.Popen(
            ["bash", "-eo", "pipefail", "-c", as_run(text, ports)], cwd=world.folder,
            env={**world.environment(), **settings}, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield shell, output
    finally:
        end(shell)


@contextmanager
def serving(world: World, text: str, ports: Mapping[int, int], **settings: str) -> Iterator[Path]:
    """The text once it answers at all of the ports."""
    with shell_of(world, text, ports, **settings) as (shell, output):
        for port in ports.values():
            wait_for(port, shell, output)
        yield output


def end(shell: subprocess.Popen[bytes]) -> None:
    """Whatever the shell started and left behind, too."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, number)
        with suppress(subprocess.TimeoutExpired):
            shell.wait(timeout=20)


def wait_for(port: int, shell: subprocess.Popen[bytes], output: Path) -> None:
    while True:
        assert shell.poll() is None, output.read_text()
        for scheme in ("http", "https"):
            with suppress(httpx.TransportError):  # its port takes connections before it serves
                answer = httpx.get(f"{scheme}://127.0.0.1:{port}/health", trust_env=False, verify=False)
                if '"loading"' not in answer.text:
                    return
        time.sleep(0.05)


@pytest.fixture(scope="module")
def world(local: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("documented")
    (folder / ".venv").symlink_to(local.bin.parent)
    ports = {written: free_port() for written in (8000, 8080, 8090, 8400)}
    speech, backend, carrier = (f"http://127.0.0.1:{ports[port]}" for port in (8000, 8080, 8090))
    world = World(local, folder, ports, {"POD": speech, "SESAME_API_KEY": _KEY})
    with ExitStack() as stack:
        stack.enter_context(
            serving(
                world,
                "sesame-server",
                {8000: ports[8000]},
                ENGINE="preview",
                PORT=str(ports[8000]),
                HOST="127.0.0.1",
                VOICES_DIR=str(folder / "voices"),
            )  # fmt: skip
        )
        standing_in = stack.enter_context(
            serving(
                world,
                f"python -m backend.simulator --port 8090 --webhook-url {backend}/webhooks/telnyx "
                "--api-key KEY1 --connection-id app1",
                {8090: ports[8090]},
            )
        )
        subprocess.run([local.bin / "voice-agent", "init"], cwd=folder, env=world.environment(), check=True)
        public_key = re.search(r"^TELNYX_PUBLIC_KEY=(.*)$", standing_in.read_text(), re.MULTILINE)
        assert public_key
        fill_in(
            folder / ".env",
            TELNYX_API_KEY="KEY1", TELNYX_PUBLIC_KEY=public_key.group(1), TELNYX_CONNECTION_ID="app1",
            TELNYX_FROM_NUMBER="+15550100001", PUBLIC_URL=backend, API_KEY="an-api-key",
            SESAME_SELF_HOSTED_URL=speech, SESAME_API_KEY=_KEY, TELNYX_BASE_URL=f"{carrier}/v2",
        )  # fmt: skip
        stack.enter_context(serving(world, "voice-agent serve", {8080: ports[8080]}, PORT=str(ports[8080])))
        yield world


def save_what_the_page_shows(folder: Path, page: str) -> None:
    """A caller's script, the stand-in's replies, and the recording that a voice is made of."""
    for block in blocks("json"):
        for file, word in (("grumpy.json", "interrupt_after_ms"), ("replies.json", '"rules"')):
            if block.page == page and word in block.text:
                (folder / file).write_text(block.text)
    recording = ROOT / "runpod_server/voices/shipped/rowan.wav"
    (folder / "mara.wav").write_bytes(recording.read_bytes())


def fill_in(file: Path, **values: str) -> None:
    text = file.read_text()
    for name, value in values.items():
        text, count = re.subn(rf"^{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
        assert count == 1, name
    file.write_text(text)


@pytest.mark.parametrize("block", RUN, ids=lambda block: block.key)
def test_it_runs_as_written(world: World, block: Block) -> None:
    save_what_the_page_shows(world.folder, block.page)
    with shell_of(world, block.text, world.ports) as (shell, output):
        assert shell.wait() == 0, output.read_text()
    assert "Traceback" not in output.read_text()


@pytest.mark.parametrize("block", SERVED, ids=lambda block: block.key)
def test_it_serves_as_written(world: World, block: Block) -> None:
    name = listed(block, SERVES)
    assert name
    save_what_the_page_shows(world.folder, block.page)
    ports = {written: free_port() for written in SERVES[name]}
    with serving(
        world, block.text, ports, PORT=str(ports.get(8080, ports.get(8000, 0))), ENGINE="preview"
    ) as output:
        assert "Traceback" not in output.read_text()


def test_the_taxi_tutorial_runs_as_written(local: Installation, tmp_path: Path) -> None:
    world = World(local, tmp_path, {written: free_port() for written in (8400, 8500)})
    moves_the_office = f"sed -i s/.8500/:{world.ports[8500]}/ agents/taxi.json\n"
    assert len(TAXI) == 3
    for block in TAXI:
        text = re.sub(r"(?<=--template taxi\n)", moves_the_office, block.text)
        with shell_of(world, text, world.ports) as (shell, output):
            assert shell.wait() == 0, output.read_text()
        assert "Traceback" not in output.read_text()


def test_the_readmes_call_is_placed(world: World) -> None:
    (block,) = [block for block in RUN if block.page == "README.md" and "/api/v1/calls" in block.text]
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", as_run(block.text, world.ports)], cwd=world.folder,
        env=world.environment(), capture_output=True, check=True,
    )  # fmt: skip
    call = httpx.Response(200, content=done.stdout).json()
    assert (call["agent_id"], call["to"], call["variables"]["name"]) == ("reminder", "+15551234567", "Sarah")
    url = f"http://127.0.0.1:{world.ports[8080]}/api/v1/calls/{call['id']}"
    while call["state"] == "queued":
        time.sleep(0.05)
        call = httpx.get(url, headers={"Authorization": "Bearer an-api-key"}, trust_env=False).json()
    assert call["state"] != "failed", call["error"]

"""`voice-agent simulate`: a scripted caller talks with an agent through the whole system; it is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from backend.core.agent import Agent
from backend.errors import BackendError
from backend.simulator.call_run import Evidence, run_inbound, run_outbound
from backend.simulator.outcome import judge, write_outcome
from backend.simulator.report import Expected
from backend.simulator.show import ConversationView, print_report
from backend.simulator.stack import Stack, StackConfig

_ANYBODY, _ANYBODY_ELSE = "+15550100077", "+15550100042"
_LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Simulation:
    """What was asked for on the command line."""

    agent: Agent
    script: Mapping[str, Any]
    title: str
    out: Path
    agents_dir: Path
    codec: str = "PCMU"
    outbound: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)
    speech_url: str | None = None
    speech_key: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    """The backend's, beyond those of the simulation itself."""
    foretold: Sequence[str] = ()
    """Said before anything starts."""
    lenient_latency: bool = False


async def run_simulation(console: Console, asked: Simulation) -> int:
    """→ exit status: 0, or 1 when something that must hold did not. Raises BackendError."""
    for sentence in asked.foretold:
        _warn(console, sentence)
    out = run_folder(asked.out, asked.title)
    config = StackConfig(
        run_dir=out / "run",
        agents_dir=asked.agents_dir,
        speech_url=asked.speech_url,
        speech_key=asked.speech_key if asked.speech_url else None,
        settings=asked.settings,
    )
    console.print("Starting the speech server, the Telnyx stand-in and the backend …")
    async with Stack(config) as stack:
        await _tell_warnings(console, stack, asked.agent)
        evidence = await _call(stack, asked, ConversationView(console))
        await _tell_warnings(console, stack, asked.agent)
    report = judge(evidence, _expected(asked.script))
    console.print()
    print_report(console, report)
    files = write_outcome(evidence, report, out, "call", asked.title)
    console.print(f"\n{escape(str(files[0]))} and .png, .txt, .json", soft_wrap=True)
    return 1 if report.broken(lenient_latency=asked.lenient_latency) else 0


def run_folder(out: Path, title: str) -> Path:
    """A new folder for this run in `out`, where the link `latest` leads to it. Raises BackendError."""
    name = f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{_slug(title)}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        folder = _new_folder(out, name)
        _point_to(out / _LATEST, folder.name)
    except OSError as error:
        raise BackendError(f"{error.filename or out} cannot be made: {error.strerror}") from error
    return folder


def _new_folder(out: Path, name: str) -> Path:
    for number in range(1, 1000):  # several may start in one second
        folder = out / (name if number == 1 else f"{name}_{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(17, "there are too many runs of this second", str(out / name))


def _point_to(link: Path, target: str) -> None:
    if link.is_symlink():
        link.unlink()
    if not link.exists():  # a file or folder of that name is somebody's own
        link.symlink_to(target)


def _slug(title: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in title.lower()).split())


async def _tell_warnings(console: Console, stack: Stack, agent: Agent) -> None:
    for message in await stack.warnings([agent.id]):
        _warn(console, message)


def _warn(console: Console, message: str) -> None:
    console.print(f"[yellow]![/] {escape(message)}", soft_wrap=True)


async def _call(stack: Stack, asked: Simulation, listener: ConversationView) -> Evidence:
    agent = asked.agent
    if agent.phone_numbers and not asked.outbound:
        return await run_inbound(
            stack, to=agent.phone_numbers[0], from_number=_ANYBODY, script=asked.script, codec=asked.codec,
            listener=listener,
        )  # fmt: skip
    return await run_outbound(
        stack, agent_id=agent.id, to=_ANYBODY_ELSE, variables=asked.variables, script=asked.script,
        codec=asked.codec, listener=listener,
    )  # fmt: skip


def _expected(script: Mapping[str, Any]) -> Expected:
    """A script tells little: so many interruptions, and answers if the caller says anything."""
    steps = script.get("steps", [])
    interruptions = sum("interrupt_after_ms" in step for step in steps)
    return Expected(interruptions=interruptions, answers=any("say" in step for step in steps))

"""The command line, `voice-agent`: serve, demo, simulate, check agents, measure speech.

Exit status: 0 all right, 1 something did not hold or cannot be done (one sentence says what), 2 wrong usage,
130 interrupted. A user's mistake never shows a traceback.
"""

from __future__ import annotations

import asyncio
import glob
import logging
import signal
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from backend import __version__, shipped
from backend.core.agent import Agent, missing_variables
from backend.core.agent_names import slug
from backend.core.agent_secrets import unset_secrets
from backend.core.urls import check_http_url
from backend.errors import BackendError, ConfigError
from backend.extras import need
from backend.init import TEMPLATES, run_init
from backend.latency import DEFAULT_TEXT
from backend.settings import Settings, load_agent_secrets, load_settings, unknown_in_env_file
from backend.simulator.demo import run_demo
from backend.simulator.sample_scripts import read_script
from backend.simulator.session import Simulation, run_simulation
from backend.speaker_check import Told, speaker_warnings
from backend.speech_chain import SpeechChain
from backend.storage.agent_files import AgentFiles
from backend.storage.prompts import PromptStore

T = TypeVar("T")

app = typer.Typer(
    name="voice-agent",
    help="Answers and places telephone calls with voice agents.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
agents_app = typer.Typer(help="Agent files.", no_args_is_help=True)
app.add_typer(agents_app, name="agents")
prompts_app = typer.Typer(help="What agents say to everybody, spoken beforehand.", no_args_is_help=True)
app.add_typer(prompts_app, name="prompts")

_AgentsDir = Annotated[
    Path | None,
    typer.Option("--agents-dir", help="Folder of the agent files.", show_default="AGENTS_DIR, else agents"),
]
_Lenient = Annotated[
    bool, typer.Option("--lenient-latency", help="Do not fail when the machine was only too slow.")
]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"voice-agent {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where; it is made if need be.")] = Path(),
    template: Annotated[str, typer.Option(help=f"What: {', '.join(TEMPLATES)}.")] = "clinic",
) -> None:
    """Write sample agents, suites that call them, and .env; what is there already stays as it is."""
    raise typer.Exit(_told(lambda: run_init(_console(), folder, template)))


@app.command()
def serve(agents_dir: _AgentsDir = None) -> None:
    """Answer and place calls: the same as `python -m backend`. Settings: the environment and .env."""
    from backend.run import main as run_backend

    raise typer.Exit(run_backend({} if agents_dir is None else {"agents_dir": agents_dir}))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where recordings and pictures go.")] = Path("demo-out"),
    agents_dir: Annotated[
        Path | None,
        typer.Option(help="Folder with the agents front-desk and reminder.", show_default="the shipped ones"),
    ] = None,
    lenient_latency: _Lenient = False,
) -> None:
    """A whole spoken call on this machine, both ways: no key, no GPU, no download.

    Its two callers know the shipped agents alone: those are called, wherever AGENTS_DIR points.
    """
    console = _console()
    _told(lambda: need("local", "the demo"))
    agents_dir = shipped.agents_folder() if agents_dir is None else agents_dir
    _AgentsOf(agents_dir)
    raise typer.Exit(_run(console, run_demo(console, out, agents_dir, lenient_latency=lenient_latency)))


@app.command()
def simulate(
    agent: Annotated[str, typer.Option(help="The agent: its id, name or file.")],
    script: Annotated[str, typer.Option(help="A shipped script's name, or a JSON file.")],
    codec: Annotated[str, typer.Option(help="The line's codec: PCMU or PCMA.")] = "PCMU",
    out: Annotated[Path, typer.Option(help="Folder of the runs: each in one of its own.")] = Path(
        "simulate-out"
    ),
    speech_url: Annotated[str | None, typer.Option(help="A speech server of your own, http://…")] = None,
    speech_key: Annotated[
        str | None, typer.Option(envvar="SESAME_API_KEY", show_envvar=True, help="Its key, if it wants one.")
    ] = None,
    outbound: Annotated[
        bool, typer.Option("--outbound", help="The agent calls; else only when it has no number.")
    ] = False,
    variables: Annotated[
        list[str] | None, typer.Option("--var", metavar="NAME=VALUE", help="A variable of an outbound call.")
    ] = None,
    agents_dir: _AgentsDir = None,
    lenient_latency: _Lenient = False,
) -> None:
    """Let a scripted caller talk with one of your agents, through the whole system.

    The agent has what `serve` would give it: language model, tools, secrets, hearing. Voice and carrier are
    stand-ins.
    """
    console = _console()
    _told(lambda: need("local", "a spoken call"))
    agents_dir = _agents_dir(agents_dir)
    found = _AgentsOf(agents_dir).find(agent)
    steps = _told(lambda: read_script(script))
    codec = codec.upper()
    if codec not in ("PCMU", "PCMA"):
        _fail(f"--codec: {codec} is not known here; choose PCMU or PCMA")
    given = _variables(variables or [])
    if speech_url is not None:
        speech_url = _http_url(speech_url)

    from backend.evals.foretold import (
        real_requests,  # it takes a while, which who asks for help need not wait for
    )
    from backend.simulated_settings import simulated_settings

    settings = _settings()
    secrets = load_agent_secrets(settings)
    asked = Simulation(
        agent=found,
        script=steps,
        title=f"{found.name} · {Path(script).stem}",
        out=out,
        agents_dir=agents_dir,
        codec=codec,
        outbound=outbound,
        variables=given,
        speech_url=speech_url,
        speech_key=speech_key,
        settings=simulated_settings(settings, secrets),
        foretold=tuple(real_requests(found, webhooks=settings.webhook_actions)),
        lenient_latency=lenient_latency,
    )
    raise typer.Exit(_run(console, run_simulation(console, asked)))


@app.command()
def latency(
    agent: Annotated[str | None, typer.Option(help="Only its routes: an agent's id, name or file.")] = None,
    route: Annotated[list[str] | None, typer.Option(help="Only this route; may be given again.")] = None,
    runs: Annotated[int, typer.Option(help="How often each route is asked.")] = 10,
    text: Annotated[str, typer.Option(help="What is spoken.")] = DEFAULT_TEXT,
    out: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path("latency-out"),
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON last.")] = False,
    agents_dir: _AgentsDir = None,
) -> None:
    """Measure every speech route that is set up: connecting, first sound, all of it."""
    from backend.latency.session import run_latency

    console, settings = _console(), _settings()
    known = _AgentsOf(agents_dir or settings.agents_dir)
    work = run_latency(
        console, settings, known.all(), agent=None if agent is None else known.find(agent),
        routes=route or [], runs=runs, text=text, out=out, as_json=as_json,
    )  # fmt: skip
    raise typer.Exit(_run(console, work))


@app.command()
def chat(
    agent: Annotated[str | None, typer.Argument(help="The agent: its id, name or file.")] = None,
    text: Annotated[bool, typer.Option("--text", help="In writing only, without a voice.")] = False,
    save: Annotated[Path | None, typer.Option(help="Keep what the agent says: a WAV file.")] = None,
    variables: Annotated[
        list[str] | None, typer.Option("--var", metavar="NAME=VALUE", help="A variable of the call.")
    ] = None,
    agents_dir: _AgentsDir = None,
) -> None:
    """Talk with an agent by typing; hear it when its voice is there."""
    from backend.evals.chat import ChatOptions, run_chat

    console, settings = _console(), _settings()
    known = _AgentsOf(agents_dir or settings.agents_dir)
    if agent is None and len(known.all()) > 1:
        names = ", ".join(slug(one.name) for one in known.all())
        _fail(f"say which agent: voice-agent chat NAME; known are {names}")
    found = known.all()[0] if agent is None else known.find(agent)
    given = _variables(variables or [])
    if missing := missing_variables(found, set(given)):
        hint = " ".join(f"--var {name}=…" for name in missing)
        _fail(f"{found.name} needs the variables {', '.join(missing)}: {hint}")
    secrets = load_agent_secrets(settings)
    options = ChatOptions(text, save, given)
    raise typer.Exit(_told(lambda: run_chat(console, settings, found, options, secrets)))


@app.command("eval")
def evaluate(
    suites: Annotated[list[Path] | None, typer.Argument(help="Suites, or folders of them.")] = None,
    audio: Annotated[
        bool, typer.Option("--audio/--text", help="Through the real processes and voices, or in writing.")
    ] = False,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML there.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a report with every call's sound there.")] = None,
    agent: Annotated[str | None, typer.Option(help="Another agent than the suites name.")] = None,
    words: Annotated[
        list[str] | None, typer.Option("-k", help="Only cases whose name, suite or tag holds this.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=32, help="Calls at once; with --audio.")] = 1,
    agents_dir: _AgentsDir = None,
) -> None:
    """Run suites of callers, scripted or played by a language model, against agents; judge every call."""
    from backend.evals.command import EvalOptions, run_eval

    if audio:
        _told(lambda: need("local", "a spoken call"))
    agents_dir = _agents_dir(agents_dir)
    options = EvalOptions(
        tuple(suites or [Path("evals")]), "audio" if audio else "text", junit, html, agent,
        tuple(words or ()), jobs, agents_dir,
    )  # fmt: skip
    known = _AgentsOf(agents_dir)

    def load() -> tuple[Settings, dict[str, str]]:
        settings = _settings()
        return settings, load_agent_secrets(settings)

    raise typer.Exit(_told(lambda: run_eval(_console(), options, known.find, load)))


@agents_app.command("check")
def check_agents(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FOLDER|FILE]",
            help="Folder of the agent files, or one of them.",
            show_default="AGENTS_DIR, else agents",
        ),
    ] = None,
    agents_dir: _AgentsDir = None,
) -> None:
    """Check agent files: every mistake with its file, field and reason."""
    console = _console()
    path = _agents_dir(folder or agents_dir)
    if path.suffix == ".json" and not path.exists():
        _fail(f"{path} does not exist: give an agent's file, or a folder of them")
    files = AgentFiles(path.parent, pattern=glob.escape(path.name)) if path.is_file() else AgentFiles(path)
    try:
        with _unlogged("backend.storage.agent_files"):  # told below instead
            files.load()
    except ConfigError as error:
        if not files.problems:
            _fail(str(error))
    chain = _speech_chain()
    for agent in files.all():
        numbers = ", ".join(agent.phone_numbers) or "no number: outbound only"
        nodes = len(agent.call_flow.nodes) if agent.call_flow else 0
        console.print(f"[green]✓[/] [bold]{escape(agent.name)}[/] ({agent.id}), {numbers}, {nodes} nodes")
        if chain is not None:
            console.print(f"  speaks by {escape(chain.told(agent))}", soft_wrap=True)
    for warning in files.warnings:
        console.print(f"[yellow]![/] {escape(warning)}")
    for warning in _unset_secrets(files.all()):
        console.print(f"[yellow]![/] {escape(warning)}", soft_wrap=True)
    for told in _speaker_warnings(files.all()):
        mark = "[dim]·[/]" if told.calm else "[yellow]![/]"
        console.print(f"{mark} {escape(told.sentence)}", soft_wrap=True)
    for problem in files.problems:
        console.print(f"[bold red]✗[/] {escape(str(problem))}")
    raise typer.Exit(1 if files.problems else 0)


@prompts_app.command("list")
def list_prompts() -> None:
    """What is prepared: seconds, text and voice."""
    console, store = _console(), _prompts_there()
    found = sorted(store.prompts(), key=lambda item: (item[1].voice, item[1].maker, item[1].text))
    said_of = ""
    for _, prompt in found:
        voice = f"{prompt.voice}, made by {prompt.maker or 'an unknown engine'}"
        if voice != said_of:
            console.print(f"[bold]{escape(voice)}[/]")
        said_of = voice
        console.print(f"{prompt.duration_ms / 1000:6.1f} s  {escape(prompt.text)}", soft_wrap=True)
    seconds = sum(prompt.duration_ms for _, prompt in found) / 1000
    console.print(f"{len(found)} prompts, {seconds:.0f} s, in {escape(str(store.dir))}")


@prompts_app.command("clear")
def clear_prompts(
    voice: Annotated[str, typer.Option(help="Only of voices whose line in `list` holds this.")] = "",
) -> None:
    """Forget what is prepared, as after a voice was changed. A running backend makes it anew."""
    store = _prompts_there()
    keys = [key for key, prompt in store.prompts() if voice in prompt.voice]
    for key in keys:
        store.drop(key)
    _console().print(f"{len(keys)} prompts removed from {escape(str(store.dir))}")


@prompts_app.command("prepare")
def prepare_prompts(
    agent: Annotated[str | None, typer.Option(help="Only this agent: its id, name or file.")] = None,
    agents_dir: _AgentsDir = None,
) -> None:
    """Have everything spoken now that agents say to everybody, and keep it."""
    console, settings = _console(), _settings()
    known = _AgentsOf(agents_dir or settings.agents_dir)
    agents = known.all() if agent is None else [known.find(agent)]
    store = _prompts(settings)

    async def prepare() -> int:
        from backend.app import preparing

        async with preparing(settings, store, agents) as preparer:
            for one in agents:
                made, there = await preparer.prepare(
                    one, told=lambda done, of, text: console.print(f"{done}/{of} {escape(text)}")
                )
                console.print(f"[bold]{escape(one.name)}[/]: {there} prompts, {made} made now")
        return 0

    raise typer.Exit(_run(console, prepare()))


@cache
def _unknown_settings_told() -> None:
    """Once, whatever asks for the settings."""
    for sentence in unknown_in_env_file():
        Console(stderr=True, highlight=False).print(f"[yellow]![/] {escape(sentence)}", soft_wrap=True)


def _settings() -> Settings:
    _unknown_settings_told()
    return _told(load_settings)


def _agents_dir(given: Path | None) -> Path:
    """The folder asked for, else that of the settings, as the backend takes it."""
    return _settings().agents_dir if given is None else given


def _prompts_there() -> PromptStore:
    """The prompts, for those who only look: where there are none, no folder is made for them."""
    settings = _settings()
    if settings.prompts_max_mb and not settings.prompts_dir.exists():
        _console().print(f"Nothing is prepared: there is no folder {escape(str(settings.prompts_dir))}")
        raise typer.Exit
    return _prompts(settings)


def _speech_chain() -> SpeechChain | None:
    """None where the settings have faults: agents can be checked all the same."""
    try:
        return SpeechChain(load_settings())
    except ConfigError:
        return None


def _unset_secrets(agents: Sequence[Agent]) -> list[str]:
    try:
        secrets = load_agent_secrets(load_settings())
    except ConfigError:  # told with the speakers
        return []
    return [sentence for agent in agents for sentence in unset_secrets(agent, secrets)]


def _speaker_warnings(agents: Sequence[Agent]) -> list[Told]:
    try:
        return asyncio.run(speaker_warnings(agents, load_settings()))
    except ConfigError as error:
        return [Told(f"Whether the agents' speakers have a voice was not asked. {error}")]


def _prompts(settings: Settings) -> PromptStore:
    if not settings.prompts_max_mb:
        _fail("prompts are kept in memory only: PROMPTS_MAX_MB is 0")
    return _told(lambda: PromptStore(settings.prompts_dir, max_bytes=settings.prompts_max_mb << 20))


class _AgentsOf:
    """The usable agents of a folder, found by what a person would call them."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            _fail(
                f"{folder} is not a folder; give that of the agent files with --agents-dir or AGENTS_DIR, or "
                "let `voice-agent init` write samples"
            )
        self._folder = folder
        self._files = AgentFiles(folder)
        _told(self._files.load)

    def all(self) -> list[Agent]:
        return self._files.all()

    def find(self, wanted: str) -> Agent:
        if (found := self._files.find(wanted)) is not None:
            return found
        file = f"{Path(wanted).stem if wanted.endswith('.json') else wanted}.json"
        if problem := next((p for p in self._files.problems if p.file == file), None):
            _fail(str(problem))
        known = ", ".join(f"{agent.name} ({agent.id})" for agent in self._files.all())
        _fail(f"there is no agent {wanted} in {self._folder}; known are {known}")


def _variables(given: list[str]) -> dict[str, str]:
    for item in given:
        if "=" not in item:
            _fail(f"--var {item}: write NAME=VALUE")
    return dict(item.split("=", 1) for item in given)


def _http_url(given: str) -> str:
    try:
        return check_http_url(given)
    except ValueError as error:
        _fail(f"--speech-url {given}: {error}")


def _run(console: Console, work: Coroutine[Any, Any, int]) -> int:
    """Run to the end; what was started is stopped whatever happens: Ctrl-C, SIGTERM, a closed terminal."""

    async def guarded() -> int:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await work

    try:
        return asyncio.run(guarded())
    except BackendError as error:
        _fail(str(error))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("[bold]Interrupted; everything is stopped.[/]")
        return 130


def _told(work: Callable[[], T]) -> T:
    try:
        return work()
    except BackendError as error:
        _fail(str(error))


@contextmanager
def _unlogged(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _fail(message: str) -> NoReturn:
    Console(stderr=True, highlight=False).print(
        f"[bold red]voice-agent:[/] {escape(message)}", soft_wrap=True
    )
    raise typer.Exit(1)


def _console() -> Console:
    """At least 110 columns when nobody looks, so that tables stay whole in logs."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=max(console.width, 110))


def main() -> None:
    """The `voice-agent` script."""
    app()


if __name__ == "__main__":
    main()

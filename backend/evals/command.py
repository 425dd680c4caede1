"""`voice-agent eval`: finds suites, runs them, tells of each call, writes the reports."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.markup import escape

from backend.core.agent import Agent
from backend.errors import BackendError, ConfigError
from backend.evals.foretold import foretold, real_requests
from backend.evals.junit import junit
from backend.evals.mind import mind_of, player_of
from backend.evals.played_call import no_player
from backend.evals.results import Attempt, SuiteResult, all_passed
from backend.evals.runner import Job, Run
from backend.evals.suite import Case, Mode, Suite, SuiteError, load_suite
from backend.evals.text_call import no_mind
from backend.evals.understood import misheard
from backend.evals.warnings import warnings_told
from backend.settings import Settings, secrets_of
from backend.simulated_settings import simulated_settings

INTERRUPTED = 130
_NAMED = 20


@dataclass(frozen=True, slots=True)
class EvalOptions:
    """What was asked for on the command line."""

    paths: tuple[Path, ...]
    mode: Mode = "text"
    junit: Path | None = None
    html: Path | None = None
    agent: str | None = None
    words: tuple[str, ...] = ()
    at_once: int = 1
    agents_dir: Path = Path("agents")


def run_eval(
    console: Console,
    options: EvalOptions,
    find_agent: Callable[[str], Agent],
    load: Callable[[], tuple[Settings, Mapping[str, str]]],
) -> int:
    """Run everything chosen. → exit status: 0 when all passed, 1 when not, 130 when interrupted.

    `load`: settings and agents' secrets, asked for only in audio and where an agent thinks by a language
    model or uses tools, or a caller is played by one. Raises ConfigError for suites that cannot be used, and
    when nothing is left to run.
    """
    jobs = choose(options, find_agent)
    _must_be_writable(options)
    count = sum(case.repeat for job in jobs for case in job.cases)
    calls, suites = _many(count, "call"), _many(len(jobs), "suite")
    teller = CallTeller(console)
    run = Run(jobs, options.mode, teller)
    interrupted = False
    try:
        with _stopped_by_signals():
            console.print(f"{calls} in {options.mode}, {suites}")
            needed = options.mode == "audio" or any(_needs_settings(job) for job in jobs)
            loaded = load() if needed else None
            if loaded is not None:
                _foretell(jobs, options.mode, *loaded, teller)
            _hold(run, options, loaded, teller)
    except (KeyboardInterrupt, asyncio.CancelledError):
        interrupted = True
    try:
        _conclude(console, run.results)
        _write(console, options, run.results)
    except KeyboardInterrupt:
        interrupted = True
        console.print("[bold]The reports are not complete.[/]")
    if interrupted:
        console.print("[bold]Interrupted: what there is was kept.[/]")
        return INTERRUPTED
    return 0 if all_passed(run.results) else 1


def choose(options: EvalOptions, find_agent: Callable[[str], Agent]) -> list[Job]:
    """The suites and those of their cases that fit mode and words. Raises ConfigError."""
    suites, mistakes = _read(suite_files(options.paths))
    jobs: list[Job] = []
    for path, suite in suites:
        cases = tuple(case for case in suite.cases if _fits(suite, case, options))
        if cases:
            job = Job(suite, str(path), find_agent(options.agent or suite.agent), cases)
            mistakes += [*_without_models(job), *(_not_of_agent(job) if options.agent is None else ())]
            jobs.append(job)
    if mistakes:
        raise SuiteError("\n".join(mistakes))
    if not jobs:
        raise SuiteError(_nothing_fits(suites, options))
    return jobs


def _read(paths: Sequence[Path]) -> tuple[list[tuple[Path, Suite]], list[str]]:
    """What can be read of the suites, and every mistake in them."""
    suites: list[tuple[Path, Suite]] = []
    mistakes: list[str] = []
    for path in paths:
        try:
            suites.append((path, load_suite(path)))
        except SuiteError as error:
            mistakes.append(str(error))
            suites += [] if error.sound is None else [(path, error.sound)]
    return suites, mistakes


def _nothing_fits(suites: Sequence[tuple[Path, Suite]], options: EvalOptions) -> str:
    if any(_fits(suite, case, replace(options, mode="text")) for _, suite in suites for case in suite.cases):
        return "no case fits: they are held in writing only (modes); leave --audio out"
    if any(_fits(suite, case, replace(options, mode="audio")) for _, suite in suites for case in suite.cases):
        return "no case fits: they are held in real audio only (modes): --audio"
    names = list(dict.fromkeys(case.id for _, suite in suites for case in suite.cases))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    tags = sorted({tag for _, suite in suites for case in suite.cases for tag in case.tags})
    tagged = f"; tags are {', '.join(tags)}" if tags else ""
    return f"no case fits; known are {', '.join(names[:_NAMED])}{more}{tagged}"


def _needs_settings(job: Job) -> bool:
    thinks = job.agent.llm.provider != "none" or bool(job.agent.tools)
    return thinks or any(case.played_by is not None for case in job.cases)


def _without_models(job: Job) -> Iterator[str]:
    for case in job.cases:
        if case.played_by is not None and (case.played_by.model or job.agent.llm.model) is None:
            yield f"{job.file}: {case.id}: played_by.model: is missing, and {job.agent.name} has none either"


def _not_of_agent(job: Job) -> Iterator[str]:
    """What the agent does not have is reached or used in no call: to expect that it is not proves nothing."""
    nodes = [node.id for node in job.agent.call_flow.nodes] if job.agent.call_flow else []
    tools = [tool.name for tool in job.agent.tools]
    for case in job.cases:
        expect = case.expect
        ends_at = () if expect.ends_at is None else (expect.ends_at,)
        named = {"nodes": (expect.nodes, nodes), "never_nodes": (expect.never_nodes, nodes),
                 "ends_at": (ends_at, nodes), "tools": (expect.tools, tools),
                 "never_tools": (expect.never_tools, tools)}  # fmt: skip
        yield from (
            f"{job.file}: {case.id}: expect.{field}: {job.agent.name} has no {name!r}{_nearest(name, known)}"
            for field, (names, known) in named.items()
            for name in names
            if name not in known
        )


def _nearest(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known) or 'none'}"


def suite_files(paths: Sequence[Path]) -> list[Path]:
    """The suites meant by files and folders. Raises ConfigError where there is none."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(file for file in path.glob("*.json") if not file.name.endswith(".schema.json"))
            if not found:
                raise ConfigError(f"{path} holds no suite: a suite is a .json file")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise ConfigError(
                f"{path} does not exist: give a suite's file, a folder of suites, or let `voice-agent init` "
                "write samples"
            )
    return list(dict.fromkeys(files))


def _fits(suite: Suite, case: Case, options: EvalOptions) -> bool:
    if options.mode not in case.modes:
        return False
    name = f"{suite.name} {case.id} {' '.join(case.tags)}".casefold()
    return not options.words or any(word.casefold() in name for word in options.words)


def _foretell(
    jobs: Sequence[Job], mode: Mode, settings: Settings, secrets: Mapping[str, str], teller: CallTeller
) -> None:
    for agent in {job.agent.id: job.agent for job in jobs}.values():
        # In audio the backend tells itself what an agent lacks.
        told = foretold(agent, settings, secrets) if mode == "text" else real_requests(agent, webhooks=False)
        for sentence in told:
            teller.warn(sentence)


def _hold(
    run: Run, options: EvalOptions, loaded: tuple[Settings, Mapping[str, str]] | None, teller: CallTeller
) -> None:
    open_player = no_player if loaded is None else player_of(*loaded)
    if options.mode == "text":
        with warnings_told(teller.warned, {} if loaded is None else secrets_of(loaded[0])):
            run.in_text(no_mind if loaded is None else mind_of(*loaded), open_player)
        return
    further = {} if loaded is None else simulated_settings(*loaded)
    with _run_dir(options) as run_dir:
        try:
            work = run.in_audio(
                run_dir, options.agents_dir, open_player, at_once=options.at_once,
                settings={**further, "WEBHOOK_ACTIONS": "false"}, warned=teller.warn,
            )  # fmt: skip
            asyncio.run(work)
        except BaseExceptionGroup as group:
            raise _first(group) from group


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextmanager
def _run_dir(options: EvalOptions) -> Iterator[Path]:
    if options.html is not None:
        yield options.html / "run"
        return
    with tempfile.TemporaryDirectory(prefix="voice-agent-eval-") as folder:
        yield Path(folder)


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """SIGTERM and a closed terminal end the run as Ctrl-C does: with its reports."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class CallTeller:
    """A line for each call, as it is judged."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._file = ""
        self._warnings: list[str] = []

    def warn(self, message: str) -> None:
        """Say it now."""
        self._console.print(f"[yellow]![/] {escape(message)}", soft_wrap=True)

    def warned(self, message: str) -> None:
        """Say it of the call under way, once that is judged."""
        self._warnings.append(message)

    def __call__(self, job: Job, case: Case, attempt: Attempt) -> None:
        if job.file != self._file:
            self._file = job.file
            self._console.print(f"\n[bold]{escape(job.suite.name)}[/] [dim]{escape(job.file)}[/]")
        failed = "[bold yellow]![/]" if attempt.blameless else "[bold red]✗[/]"
        mark = "[bold green]✓[/]" if attempt.passed else failed
        number = f" #{attempt.number}" if case.repeat > 1 else ""
        report = attempt.report
        length = (
            "" if report is None else f" [dim]{report.duration_ms / 1000:.0f} s, {len(report.nodes)} nodes[/]"
        )
        self._console.print(f"{mark} {escape(case.id)}{number}{length}")
        for line in attempt.complaints:
            self._console.print(f"    [red]{escape(line)}[/]", soft_wrap=True)
        if attempt.heard and not attempt.passed and report is not None:
            for line in misheard(report):
                self._console.print(f"    [dim]{escape(line)}[/]", soft_wrap=True)
        for message in self._warnings:
            self._console.print(f"    [yellow]![/] {escape(message)}", soft_wrap=True)
        self._warnings.clear()


def _conclude(console: Console, results: Sequence[SuiteResult]) -> None:
    console.print()
    for result in results:
        if not result.cases:
            console.print(f"[bold red]✗[/] [bold]{escape(result.suite.name)}[/]: no case was run")
            continue
        held = Counter(case.passed for case in result.cases)
        mark = "[bold green]✓[/]" if result.passed else "[bold red]✗[/]"
        share = f"{held[True]} of {len(result.cases)} cases pass ({100 * result.share:.0f} %"
        limit = f", must be {100 * result.suite.pass_rate:.0f} %)"
        cut = "" if result.complete else ", not all were run"
        console.print(f"{mark} [bold]{escape(result.suite.name)}[/]: {share}{limit}{cut}")


def _must_be_writable(options: EvalOptions) -> None:
    """Reports that cannot be written are found before the calls, not after them. Raises BackendError."""
    try:
        if options.junit is not None:
            options.junit.parent.mkdir(parents=True, exist_ok=True)
            there = options.junit.exists()
            options.junit.open("a").close()
            if not there:
                options.junit.unlink()
        if options.html is not None:
            options.html.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BackendError(f"{error.filename} cannot be written: {error.strerror}") from error


def _write(console: Console, options: EvalOptions, results: Sequence[SuiteResult]) -> None:
    try:
        if options.junit is not None:
            options.junit.parent.mkdir(parents=True, exist_ok=True)
            options.junit.write_text(junit(results), encoding="utf-8")
            console.print(f"\n{options.junit}")
        if options.html is not None:
            from backend.evals.html import write_html

            console.print(f"\n{write_html(results, options.html)}")
    except OSError as error:
        raise BackendError(f"{error.filename} cannot be written: {error.strerror}") from error


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"

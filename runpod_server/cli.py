"""The command line: `sesame-server` and `python -m runpod_server`: serve, say, voices, doctor.

Exit codes: 0 done or stopped, 1 failed, with a sentence on stderr; 2 a command line that cannot be read.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from runpod_server import __version__, client, doctor
from runpod_server.app import choose_engine, listen, serve
from runpod_server.audio import wav
from runpod_server.bench import command as bench
from runpod_server.bench.command import Model
from runpod_server.bench.plan import Plan, loads_of, size_of, streams_of, weights_of
from runpod_server.bench.report import Report
from runpod_server.bench.table import as_table
from runpod_server.errors import BenchError, ClientError, EngineUnavailable, ServerError, StartError
from runpod_server.extras import install_command, is_installed
from runpod_server.settings import Settings, Surroundings, load_settings
from runpod_server.unknown_settings import names_in, unknown_settings
from runpod_server.voices.shipped import install, open_voices
from runpod_server.voices.store import SPEAKERS, VoiceStore

_INTERRUPTED = 130

cli = typer.Typer(
    name="sesame-server",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="The speech server: text in, 24 kHz speech out, over a WebSocket.",
)

voices = typer.Typer(
    no_args_is_help=True,
    help="The folder of voices. A server that runs takes changes up when it is restarted; POST and DELETE "
    "/voices change the voices of a running one.",
)
cli.add_typer(voices, name="voices")
Folder = Annotated[Path | None, typer.Option("--dir", help="The folder; default: VOICES_DIR.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sesame-server {__version__}")
        raise typer.Exit


@cli.callback(invoke_without_command=True)
def default(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Without a command: serve."""
    if context.invoked_subcommand is None:
        run_server()


@cli.command("serve")
def serve_command(
    host: Annotated[str | None, typer.Option(help="Address to listen on; HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port, 0 for any free one; PORT.")] = None,
    engine: Annotated[str | None, typer.Option(help="preview, csm or csm-chunked; ENGINE.")] = None,
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR; LOG_LEVEL.")] = None,
) -> None:
    """Serve until Ctrl-C. Options win over the environment, which wins over .env."""
    run_server(host=host, port=port, engine=engine, log_level=log_level)


@cli.command("say")
def say_command(
    text: Annotated[str, typer.Argument(help="What to say.")],
    url: Annotated[str, typer.Option(help="The server; default: this machine's, at PORT.")] = "",
    out: Annotated[Path, typer.Option(help="WAV file to write.")] = Path("say.wav"),
    speaker: Annotated[int, typer.Option(min=0, max=9, help="Who says it.")] = 0,
    voice: Annotated[str | None, typer.Option(help="A named voice, instead of a speaker.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Equal seeds give equal sound.")] = None,
    key: Annotated[str | None, typer.Option(help="The server's key; default: SESAME_API_KEY.")] = None,
) -> None:
    """Let a running server say something, over its WebSocket, and keep the sound."""
    fields = {"text": text, "speaker_id": speaker, "voice": voice, "seed": seed}
    request = {name: value for name, value in fields.items() if value is not None}
    try:
        settings = load_settings()
        server = url or f"http://127.0.0.1:{settings.port}"
        spoken, engine = asyncio.run(_spoken(server, request, key or settings.api_key))
        out.write_bytes(wav(spoken.pcm16))
    except ServerError as error:
        _fail(error)
    except OSError as error:
        _fail(ClientError(f"{out} cannot be written ({error}): name another file with --out"))
    typer.echo(
        f"{out}: {spoken.audio_ms / 1000:.2f} s of speech in {spoken.total_ms / 1000:.2f} s, first sound "
        f"after {spoken.first_audio_ms} ms (engine {engine})"
    )
    if engine == "preview":
        typer.echo("this is the preview voice, not CSM: run `sesame-server doctor` on the server", err=True)


async def _spoken(url: str, request: dict[str, object], key: str | None) -> tuple[client.Spoken, str]:
    """The utterance, and the engine that spoke it."""
    spoken = await client.speak(url, request, api_key=key)
    if not spoken.pcm16:
        raise ClientError(f"the server ended ({spoken.reason}) without a sound")
    try:
        engine = str((await client.health(url, api_key=key)).get("engine", "unknown"))
    except ClientError as error:
        engine = f"unknown: {error}"
    return spoken, engine


@cli.command("doctor")
def doctor_command(
    engine: Annotated[str | None, typer.Option(help="Judge for this engine; ENGINE.")] = None,
    offline: Annotated[bool, typer.Option(help="Do not ask the model hub.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, for programs.")] = False,
) -> None:
    """Can this machine serve? What it has and lacks, and what to do about it. Exit code 1: it cannot."""
    try:
        found = doctor.diagnose(load_settings(engine=engine), Surroundings(), network=not offline)
    except StartError as error:
        found = [doctor.Check("settings", "fail", str(error), "mend the environment or .env")]
    typer.echo(doctor.as_json(found) if as_json else doctor.as_table(found))
    if not doctor.passed(found):
        raise typer.Exit(1)


@voices.command("list")
def list_voices(folder: Folder = None) -> None:
    """Every voice a server would have: its speaker, name and length, whose it is, and what it is."""
    with _failing():
        store = _as_a_server_has_them(folder)
    for voice in sorted(store.all(), key=lambda voice: (voice.speaker_id is None, voice.speaker_id)):
        speaker = "-" if voice.speaker_id is None else voice.speaker_id
        origin = "shipped" if voice.shipped else "yours"
        typer.echo(
            f"{speaker}  {voice.name:16} {voice.duration_ms / 1000:4.1f} s  {origin:7}  {voice.description}"
        )
    bound = {voice.speaker_id for voice in store.all()}
    if bare := [str(speaker) for speaker in SPEAKERS if speaker not in bound]:
        typer.echo(f"no voice is bound to speaker {', '.join(bare)}", err=True)
    for problem in store.problems:
        typer.echo(f"left out: {problem}", err=True)


@voices.command("install")
def install_voices(folder: Folder = None) -> None:
    """Copy the shipped voices into the folder; names and speakers that are taken stay as they are."""
    with _failing():
        store = _store(folder)
        installed, left_out = install(store)
    typer.echo(f"{store.folder}: {', '.join(installed) or 'nothing'} installed")
    for why in left_out:
        typer.echo(f"left out: {why}", err=True)


@voices.command("add")
def add_voice(
    name: Annotated[str, typer.Argument(help="1 to 63 of a-z, 0-9, - and _.")],
    recording: Annotated[Path, typer.Argument(help="WAV, 3 to 30 s of clear speech by one speaker.")],
    transcript: Annotated[str, typer.Option(help="What is said in it, word by word.")],
    speaker: Annotated[int | None, typer.Option(min=0, max=9, help="Bind this speaker to it.")] = None,
    description: Annotated[str, typer.Option(help="A word on who it is.")] = "",
    folder: Folder = None,
) -> None:
    """Keep a voice."""
    with _failing():
        try:
            content = recording.read_bytes()
        except OSError as error:
            raise ClientError(f"{recording} cannot be read ({error}): name a WAV file") from error
        voice = _store(folder).put(name, content, transcript, speaker_id=speaker, description=description)
    typer.echo(f"{voice.path}: {voice.duration_ms / 1000:.1f} s")


@voices.command("remove")
def remove_voice(name: Annotated[str, typer.Argument()], folder: Folder = None) -> None:
    """Remove a voice and its recording."""
    with _failing():
        _store(folder, must_exist=True).delete(name)
    typer.echo(f"{name} removed")


def _store(folder: Path | None, *, must_exist: bool = False) -> VoiceStore:
    """Raises StartError when no folder is named, there is none, or it cannot be used."""
    folder = folder or _folder_of_settings()
    if folder is None:
        raise StartError("name the folder of voices with --dir or VOICES_DIR")
    if must_exist and not folder.is_dir():
        raise StartError(f"there is no folder {folder}: `sesame-server voices install` makes it")
    return VoiceStore.open(folder)


def _as_a_server_has_them(folder: Path | None) -> VoiceStore:
    """Makes no folder. Raises StartError."""
    voices_dir = folder or load_settings().voices_dir
    there = voices_dir == "none" or (voices_dir is not None and voices_dir.exists())
    return open_voices(voices_dir if there else None)


def _folder_of_settings() -> Path | None:
    voices_dir = load_settings().voices_dir
    return None if voices_dir == "none" else voices_dir


@contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except ServerError as error:
        _fail(error)


@cli.command("bench")
def bench_command(
    streams: Annotated[str, typer.Option(help="How many at once, one after another.")] = "1,2,4,8,16",
    arrivals: Annotated[str, typer.Option(help="flat-out, steady, poisson, or all.")] = "all",
    seconds: Annotated[float, typer.Option(help="How long each load is watched.")] = 20.0,
    weights: Annotated[str, typer.Option(help="random, or real: those of CSM_MODEL.")] = "random",
    size: Annotated[str, typer.Option(help="Of random weights: 1b, middle or tiny.")] = "1b",
    device: Annotated[str, typer.Option(help="cuda, cuda:1 or cpu; DEVICE.")] = "",
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32; DTYPE.")] = "",
    threads: Annotated[int, typer.Option(min=0, help="Of a CPU; 0: torch's own choice.")] = 0,
    cuda_graphs: Annotated[bool, typer.Option(help="CUDA_GRAPHS, for this run.")] = True,
    generate: Annotated[bool, typer.Option(help="Measure transformers' generate beside it.")] = True,
    find_largest: Annotated[bool, typer.Option(help="Go on to the largest number that holds.")] = False,
    first_audio_ms: Annotated[float, typer.Option(help="To hold: p95 of the first sound.")] = 400.0,
    utterance_seconds: Annotated[float, typer.Option(help="Mean length of an utterance.")] = 4.0,
    voice_seconds: Annotated[float, typer.Option(help="Length of the reference voice; 0: none.")] = 10.0,
    url: Annotated[str, typer.Option(help="Measure this running server instead.")] = "",
    key: Annotated[str | None, typer.Option(help="Its key; default: SESAME_API_KEY.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for bench.json and bench.png.")] = Path("bench-out"),
) -> None:
    """How many streams this machine carries, beside transformers' own generate. The last line is JSON."""
    report, made = Report(), False
    try:
        settings = load_settings()
        plan = Plan(
            streams=streams_of(streams),
            loads=loads_of(arrivals),
            seconds=seconds,
            utterance_s=utterance_seconds,
            voice_s=voice_seconds,
            first_audio_ms=first_audio_ms,
            generate=generate,
            find_largest=find_largest,
        )
        model = Model(weights_of(weights), size_of(size), device, dtype, cuda_graphs, threads)
        made = bench.make_folder(out)
        if url:
            bench.bench_server(plan, url, key or settings.api_key, report, _tell)
        else:
            bench.bench_model(plan, model, settings, report, _tell)
    except KeyboardInterrupt:
        report.interrupted = True
    except ServerError as error:
        report.failure = str(error)
    finally:  # whatever happened: minutes of measuring are not to be lost
        if report.levels:
            _show(report, out)
        if made and not report.is_worth_keeping:
            out.rmdir()
    if report.failure:
        _fail(ServerError(report.failure))
    if report.interrupted:
        raise typer.Exit(_INTERRUPTED)


def _show(report: Report, out: Path) -> None:
    """What was measured, all of it or until it ended."""
    typer.echo(as_table(report))
    try:
        if report.is_worth_keeping:
            _tell(bench.keep(report, out))
    except BenchError as error:
        report.failure = report.failure or str(error)
    typer.echo(report.as_json())


def _tell(sentence: str) -> None:
    typer.echo(sentence, err=True)


def _fail(error: ServerError) -> NoReturn:
    typer.echo(f"speech server: {error}", err=True)
    raise typer.Exit(1) from error


def run_server(**overrides: object) -> None:
    """Serve in this process. Raises typer.Exit(1), with a sentence on stderr, when it cannot start."""
    try:
        settings = load_settings(**overrides)
        logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)-7s %(message)s")
        for chatty in ("uvicorn", "uvicorn.error"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        for sentence in unknown_settings(names_in(Path(".env")), Settings.model_fields):
            logging.getLogger(__name__).warning(sentence)
        with asyncio.Runner(loop_factory=_fastest_loop()) as runner:
            runner.run(_serve_until_signal(settings))
    except StartError as error:
        _fail(error)


async def _serve_until_signal(settings: Settings) -> None:
    engine = choose_engine(settings)
    if engine.name == "preview" and not is_installed("local"):
        # Before anybody can connect, who would be told that it is loading.
        raise EngineUnavailable(_no_engine(settings))
    listener = listen(settings.host, settings.port)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await serve(settings, engine, listener, stop)
    logging.getLogger(__name__).info("stopped")


def _no_engine(settings: Settings) -> str:
    sentence = f"the preview engine's voice is not installed: {install_command('local')}"
    return sentence if settings.engine else f"{sentence}; for CSM, see `sesame-server doctor`"


def _fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not made for Windows
        return None
    return uvloop.new_event_loop


def main() -> None:
    """Entry point of the `sesame-server` script."""
    cli()

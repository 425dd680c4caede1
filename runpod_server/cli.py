"""The command line: `sesame-server` and `python -m runpod_server`. Exit codes: 0 stopped, 1 cannot start."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from typing import Annotated

import typer

from runpod_server.app import choose_engine, listen, serve
from runpod_server.errors import StartError
from runpod_server.settings import Settings, load_settings

cli = typer.Typer(
    add_completion=False, help="The speech server: text in, 24 kHz speech out, over a WebSocket."
)


@cli.callback(invoke_without_command=True)
def default(context: typer.Context) -> None:
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


def run_server(**overrides: object) -> None:
    """Serve in this process. Raises typer.Exit(1), with a sentence on stderr, when it cannot start."""
    try:
        settings = load_settings(**overrides)
        logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)-7s %(message)s")
        for chatty in ("uvicorn", "uvicorn.error"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        with asyncio.Runner(loop_factory=_fastest_loop()) as runner:
            runner.run(_serve_until_signal(settings))
    except StartError as error:
        typer.echo(f"speech server: {error}", err=True)
        raise typer.Exit(1) from error


async def _serve_until_signal(settings: Settings) -> None:
    engine = choose_engine(settings)
    listener = listen(settings.host, settings.port)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await serve(settings, engine, listener, stop)
    logging.getLogger(__name__).info("stopped")


def _fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not made for Windows
        return None
    return uvloop.new_event_loop


def main() -> None:
    """Entry point of the `sesame-server` script."""
    cli()

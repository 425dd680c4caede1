"""`voice-agent init`: a folder to begin in: agents, suites that call them, and `.env`. Never overwrites."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from backend import shipped
from backend.errors import ConfigError
from backend.extras import install_command, is_installed

# The agents of each template; `blank` is a small one to make one's own, `taxi` one with tools and a model.
TEMPLATES = {
    "clinic": ("front-desk", "reminder"),
    "front-desk": ("front-desk",),
    "reminder": ("reminder",),
    "blank": ("my-agent",),
    "taxi": ("taxi",),
}
_FOLDERS = Path(__file__).parent / "templates"
"""A template that has a folder here is all that is in it; the others are samples that `serve` has, too."""
_BEFORE = {"taxi": ("python dispatch.py &", "the office that it books with")}
_VARIABLES = {"reminder": " --var name=Maria --var appointment_day=Tuesday --var appointment_time=ten"}
_PRIVATE, _PLAIN = 0o600, 0o644


@dataclass(frozen=True, slots=True)
class Planned:
    """A file to be: where it comes from, and where it goes."""

    source: Path
    target: Path
    mode: int = _PLAIN


def run_init(console: Console, folder: Path, template: str) -> int:
    """Write what is not there yet, and say so. → exit status. Raises ConfigError."""
    for planned in plan(folder, template):
        written = write(planned)
        mark = "[green]✓[/] wrote" if written else "[yellow]·[/] kept "
        why = "" if written else " (it was there)"
        console.print(f"{mark} {escape(str(planned.target))}{why}", soft_wrap=True)
    console.print(f"\n{escape(next_steps(folder, template))}", soft_wrap=True)
    return 0


def plan(folder: Path, template: str) -> Iterator[Planned]:
    """Every file of a template. Raises ConfigError for one that is not known."""
    if template not in TEMPLATES:
        raise ConfigError(f"--template: there is no {template}; choose one of {', '.join(TEMPLATES)}")
    agents, suites = shipped.agents_folder(), shipped.suites_folder()
    yield Planned(agents / "agent.schema.json", folder / "agents" / "agent.schema.json")
    yield Planned(suites / "suite.schema.json", folder / "evals" / "suite.schema.json")
    if (own := _FOLDERS / template).is_dir():
        files = (path for path in sorted(own.rglob("*")) if path.is_file() and path.suffix != ".pyc")
        yield from (Planned(path, folder / path.relative_to(own)) for path in files)
    else:
        for file in (f"{name}.json" for name in TEMPLATES[template]):
            yield Planned(agents / file, folder / "agents" / file)
            yield Planned(suites / file, folder / "evals" / file)
    yield Planned(shipped.env_example(), folder / ".env", _PRIVATE)  # keys will stand in it


def write(planned: Planned) -> bool:
    """False when something of that name is there already. Raises ConfigError when it cannot be written."""
    try:
        planned.target.parent.mkdir(parents=True, exist_ok=True)
        with planned.target.open("xb") as file:
            planned.target.chmod(planned.mode)
            file.write(planned.source.read_bytes())
    except FileExistsError:
        if planned.target.is_file():
            return False
        raise ConfigError(
            f"{planned.target} is in the way: it is no file; move it, or name another folder"
        ) from None
    except OSError as error:
        where = error.filename or planned.target
        raise ConfigError(f"{where} cannot be written: {error.strerror}; name another folder") from error
    return True


def next_steps(folder: Path, template: str) -> str:
    """What to type now, in this order."""
    first = TEMPLATES[template][0]
    steps = [
        ("voice-agent agents check", "are the agents' files right?"),
        (f"voice-agent chat {first}{_VARIABLES.get(first, '')}", "talk with one by typing"),
        ("voice-agent eval", "have it called by everybody in evals/, in seconds"),
        ("voice-agent demo", "a whole spoken call on this machine"),
        ("voice-agent serve", "answer real calls: fill in .env first"),
    ]
    if template in _BEFORE:
        steps.insert(0, _BEFORE[template])
    if folder != Path():
        steps.insert(0, (f"cd {shlex.quote(str(folder))}", ""))
    if not is_installed("local"):
        steps.insert(-2, (install_command("local"), "the embedded voice and recogniser, for the demo"))
    width = max(len(command) for command, _ in steps if len(command) < 60)
    lines = [f"  {command:{width}}  {f'# {what}' if what else ''}".rstrip() for command, what in steps]
    return "\n".join(["Next:", *lines, f"\nThe documentation is in {shipped.docs_folder()}"])

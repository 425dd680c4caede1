"""The shell commands that README and docs show, taken apart."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer

from backend.cli import app
from runpod_server.cli import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`((?:voice-agent|sesame-server) [^`]+)`")
_ASSIGNMENT = re.compile(r"[A-Z_]+=")
PROGRAMS: dict[str, Any] = {
    "voice-agent": typer.main.get_command(app),
    "sesame-server": typer.main.get_command(cli),
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    text: str

    @property
    def key(self) -> str:
        """The page and how its text begins: what the tables in the tests name it by."""
        return f"{Path(self.page).name}: {self.text.splitlines()[0].strip()}"


def blocks(language: str) -> list[Block]:
    """All blocks of a language, in the order of the pages."""
    found = []
    for page in PAGES:
        for match in _FENCE.finditer(page.read_text(encoding="utf-8")):
            if match.group(2) == language:
                text = textwrap.dedent(match.group(3))
                found.append(Block(str(page.relative_to(ROOT)), language, text))
    return found


def inline_commands() -> list[tuple[str, str]]:
    """Page and text of every command within a sentence."""
    return [
        (page.name, " ".join(text.split()))
        for page in PAGES
        for text in _INLINE.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))
    ]


def commands(text: str) -> Iterator[list[str]]:
    """Each command of a shell text, as words, without what is assigned before it."""
    text = re.sub(r"\$\([^)]*\)", "SUBSTITUTED", text.replace("\\\n", " "))
    text = re.sub(r"(^|\s)# .*$", "", text, flags=re.MULTILINE)
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|&;\n")
    lexer.whitespace, lexer.commenters = " \t", ""
    words: list[str] = []
    for token in [*lexer, "\n"]:
        if token.strip("|&;\n"):
            if words or not _ASSIGNMENT.match(token):
                words.append(token)
        elif words:
            yield words
            words = []


def mistake(words: list[str]) -> str | None:
    """What is wrong with a command, as far as one can tell without running it."""
    program, *arguments = words
    name = Path(program).name
    if name in PROGRAMS:
        return _unknown_to(PROGRAMS[name], arguments)
    if name == "python" and arguments[0] == "-m":
        return None if find_spec(arguments[1]) else f"there is no module {arguments[1]}"
    if name == "make":
        target = f"\n{arguments[0]}:"
        return None if target in (ROOT / "Makefile").read_text() else f"there is no target {arguments[0]}"
    if name == "pip":
        return next((f"no extra in {word}" for word in arguments if not _extras_exist(word)), None)
    named = [word for word in arguments if word.startswith("deploy/")]
    return next((f"there is no {word}" for word in named if not (ROOT / word).exists()), None)


def _unknown_to(command: Any, arguments: list[str]) -> str | None:
    """A subcommand or an option that the command does not have."""
    while (below := getattr(command, "commands", None)) and arguments and not arguments[0].startswith("-"):
        name = arguments[0].rstrip(",")
        if not re.fullmatch(r"[a-z]+", name):
            return None  # not a name: `voice-agent …`
        if name not in below:
            return f"there is no command {name}"
        command, arguments = below[name], arguments[1:]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    given = [word.partition("=")[0] for word in arguments if re.match(r"--?[a-z]", word)]
    return next((f"there is no option {word}" for word in given if word not in known | {"--help"}), None)


def _extras_exist(word: str) -> bool:
    match = re.match(r"sesame-telephony\[([\w,-]+)\]|\.\[([\w,-]+)\]", word)
    if match is None:
        return True
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = (match.group(1) or match.group(2)).split(",")
    return all(re.search(rf"^{re.escape(extra)} = \[", declared, re.MULTILINE) for extra in extras)

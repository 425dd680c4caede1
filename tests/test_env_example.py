"""`.env.example` holds every setting of both programs, its default and a sentence, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import SecretStr

import backend.settings
import runpod_server.settings

EXAMPLE = Path(__file__).parents[1] / ".env.example"
LINE = re.compile(r"^(#\s)?([A-Z][A-Z0-9_]*)=(.*)$")
DIFFER_BY_PROGRAM = {"HOST", "PORT"}


def entries() -> dict[str, tuple[str, str, bool]]:
    """Name → (comment before it, value, commented out)."""
    found: dict[str, tuple[str, str, bool]] = {}
    comment: list[str] = []
    for line in EXAMPLE.read_text(encoding="utf-8").splitlines():
        match = LINE.match(line)
        if match:
            assert match.group(2) not in found, f"{match.group(2)} stands twice"
            found[match.group(2)] = (" ".join(comment), match.group(3), bool(match.group(1)))
            comment = []
        elif line.startswith("# ") and not line.startswith("# ---"):
            comment.append(line[2:])
        else:
            comment = []
    return found


def fields(program: type) -> dict[str, object]:
    return {name.upper(): info.default for name, info in program.model_fields.items()}


def test_every_setting_is_there_and_nothing_else() -> None:
    known = fields(backend.settings.Settings) | fields(runpod_server.settings.Settings)
    assert set(entries()) == set(known)


def test_every_setting_has_a_sentence() -> None:
    for name, (comment, _, _) in entries().items():
        assert len(comment) > 20 and comment.endswith((".", "…")), f"{name} needs a sentence before it"


@pytest.mark.parametrize("program", [backend.settings.Settings, runpod_server.settings.Settings])
def test_the_values_are_the_defaults(program: type) -> None:
    found = entries()
    for name, default in fields(program).items():
        if name in DIFFER_BY_PROGRAM:
            assert found[name][2], f"{name} differs by program and must stay commented out"
            continue
        shown = "" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
        assert found[name][1] == shown, name


def test_the_example_as_it_stands_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in entries():
        monkeypatch.delenv(name, raising=False)
    plain = backend.settings.load_settings(None)
    from_example = backend.settings.load_settings(EXAMPLE)
    assert from_example == plain
    assert not any(isinstance(value, SecretStr) for value in from_example.model_dump().values())

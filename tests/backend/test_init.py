"""`voice-agent init` writes a folder that works, and never over what is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from backend.cli import app
from backend.init import TEMPLATES
from backend.settings import load_settings

ROOT = Path(__file__).parents[2]


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.mark.parametrize("template", TEMPLATES)
def test_what_it_writes_is_sound_and_its_suites_pass(
    template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("init", "--template", template)
    assert result.exit_code == 0
    names = {f"{folder}/{name}.json" for folder in ("agents", "evals") for name in TEMPLATES[template]}
    if template == "taxi":
        names |= {"dispatch.py", "replies.json", "evals-model/taxi.json"}
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == names | {".env", "agents/agent.schema.json", "evals/suite.schema.json"}
    assert all(f"✓ wrote {name}" in result.output for name in found)
    checked = run("agents", "check")
    assert checked.exit_code == 0 and checked.output.count("✓") == len(TEMPLATES[template])
    assert (
        run("eval", "-k", "confirms", "-k", "books", "-k", "leaves-a-message", "-k", "human").exit_code == 0
    )


def test_env_is_the_example_and_for_its_owner_alone(tmp_path: Path) -> None:
    run("init", tmp_path / "new")
    written = tmp_path / "new" / ".env"
    assert written.read_bytes() == (ROOT / ".env.example").read_bytes()
    assert written.stat().st_mode & 0o777 == 0o600
    assert load_settings(written).agents_dir == Path("agents")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    mine = {tmp_path / ".env": "API_KEY=mine", tmp_path / "agents" / "reminder.json": "{}"}
    for path, text in mine.items():
        path.write_text(text)
    result = run("init", tmp_path)
    assert result.exit_code == 0
    assert all(path.read_text() == text for path, text in mine.items())
    output = result.output.replace("\n", "")
    assert f"· kept  {tmp_path / '.env'} (it was there)" in output
    assert f"✓ wrote {tmp_path / 'agents' / 'front-desk.json'}" in output
    assert "wrote" not in run("init", tmp_path).output


def test_it_says_what_to_do_next(tmp_path: Path) -> None:
    output = run("init", tmp_path / "my clinic", "--template", "reminder").output
    assert f"cd '{tmp_path / 'my clinic'}'" in output.replace("\n", "")
    assert "voice-agent chat reminder --var name=Maria" in output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--template", "dentist"), "--template: there is no dentist; choose one of clinic, front-desk"),
        (("taken",), "taken/agents cannot be written: Not a directory; name another folder"),
        (("hindered",), "hindered/.env is in the way: it is no file; move it, or name another folder"),
    ],
)
def test_what_is_in_the_way_is_one_sentence(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken").touch()
    Path("hindered/.env").mkdir(parents=True)
    result = run("init", *arguments)
    assert result.exit_code == 1
    assert sentence in " ".join(result.stderr.split())

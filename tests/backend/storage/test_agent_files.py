from __future__ import annotations

import errno
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from backend.errors import AgentError
from backend.storage.agent_files import SCHEMA_NAME, AgentFiles, schema_text, write_schema

HERE = Path(__file__).parents[3]
BYE = {"start": "bye", "nodes": [{"id": "bye", "say": "Goodbye.", "actions": [{"type": "hangup"}]}]}


def agent(id: str, *numbers: str, **more: Any) -> dict[str, Any]:
    return {
        "id": id,
        "name": id.title(),
        "greeting": "Hi.",
        "phone_numbers": numbers,
        "call_flow": BYE,
    } | more


def write(dir: Path, name: str, data: dict[str, Any] | str) -> None:
    path = dir / name
    text = data if isinstance(data, str) else json.dumps(data)
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text, encoding="utf-8")
    # Two writes may fall into one tick of the file system's clock; a user's edits never do.
    os.utime(path, ns=(before + 1_000_000, before + 1_000_000))


ONE, TWO = "+15550100001", "+15550100002"


def loaded(dir: Path) -> AgentFiles:
    files = AgentFiles(dir)
    files.load()
    return files


def test_agents_are_found_by_id_and_number(tmp_path: Path) -> None:
    write(tmp_path, "a.json", agent("8015D274-4291-432a-acba-fcac59fac97b", ONE))
    write(tmp_path, "b.json", agent("desk", TWO))
    (tmp_path / SCHEMA_NAME).write_text("{}")
    (tmp_path / "notes.txt").write_text("not an agent")
    files = loaded(tmp_path)
    assert files.problems == []
    assert [found.id for found in files.all()] == ["8015D274-4291-432a-acba-fcac59fac97b", "desk"]
    upper, lower = (files.get(f"8015{letter}274-4291-432a-acba-fcac59fac97b") for letter in "Dd")
    assert upper is not None and upper is lower is files.by_number(ONE)
    assert files.get("nobody") is None and files.by_number("+19999999999") is None


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="AGENTS_DIR"):
        loaded(tmp_path / "away")


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="holds no agent file"):
        loaded(tmp_path)


def test_one_broken_file_does_not_stop_the_others(tmp_path: Path) -> None:
    write(tmp_path, "a.json", agent("a", greting="x"))
    write(tmp_path, "b.json", agent("b"))
    files = loaded(tmp_path)
    assert [found.id for found in files.all()] == ["b"]
    assert [str(problem) for problem in files.problems] == [
        "a.json: greting: unknown field; did you mean 'greeting'?"
    ]


def test_only_broken_files_are_an_error(tmp_path: Path) -> None:
    write(tmp_path, "a.json", "{")
    with pytest.raises(AgentError, match=r"a.json: not JSON at line 1, column 2"):
        loaded(tmp_path)


def test_changes_are_read_and_a_broken_one_keeps_the_last_good_version(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "a.json", agent("a", name="First"))
    files = loaded(tmp_path)
    assert not files.reload_changed()

    write(tmp_path, "a.json", agent("a", name="Second"))
    assert files.reload_changed()
    found = files.get("a")
    assert found and found.name == "Second"

    with caplog.at_level(logging.ERROR):
        write(tmp_path, "a.json", agent("a", name="Third", turns={"barge": 1}))
        assert files.reload_changed()
    found = files.get("a")
    assert found and found.name == "Second"
    assert files.problems[0].field == "turns.barge"
    assert "a.json: turns.barge: unknown field" in caplog.text
    assert "its last good version stays in use" in caplog.text

    caplog.clear()
    assert not files.reload_changed()
    assert caplog.text == ""  # told once, not at every look

    write(tmp_path, "a.json", agent("a", name="Fourth"))
    files.reload_changed()
    found = files.get("a")
    assert found and found.name == "Fourth" and files.problems == []


def test_files_come_and_go(tmp_path: Path) -> None:
    write(tmp_path, "a.json", agent("a", ONE))
    files = loaded(tmp_path)
    write(tmp_path, "b.json", agent("b", TWO))
    assert files.reload_changed() and files.by_number(TWO)
    (tmp_path / "a.json").rename(tmp_path / "c.json")
    assert files.reload_changed()
    found = files.by_number(ONE)
    assert found and found.id == "a" and files.problems == []
    (tmp_path / "c.json").unlink()
    assert files.reload_changed()
    assert files.get("a") is None


@pytest.mark.parametrize(
    ("second", "field"), [(agent("a"), "id"), (agent("A"), "id"), (agent("b", TWO, ONE), "phone_numbers[1]")]
)
def test_ids_and_numbers_belong_to_one_agent(tmp_path: Path, second: dict[str, Any], field: str) -> None:
    write(tmp_path, "m.json", agent("a", ONE))
    files = loaded(tmp_path)
    if second["id"] == "A":
        second = second | {"id": "8015D274-4291-432a-acba-fcac59fac97b"}
        write(tmp_path, "m.json", agent(second["id"].lower(), ONE))
        files.reload_changed()
    for name in ("z.json", "b.json"):  # the one in use wins, whatever the order of names
        write(tmp_path, name, second)
        files.reload_changed()
        assert [problem.field for problem in files.problems] == [field]
        assert files.problems[0].file == name
        assert len(files.all()) == 1 and files.by_number(ONE) is files.all()[0]
        (tmp_path / name).unlink()
        files.reload_changed()


def test_two_agents_can_swap_numbers_in_one_go(tmp_path: Path) -> None:
    write(tmp_path, "a.json", agent("a", ONE))
    write(tmp_path, "b.json", agent("b", TWO))
    files = loaded(tmp_path)
    write(tmp_path, "a.json", agent("a", TWO))
    write(tmp_path, "b.json", agent("b", ONE))
    files.reload_changed()
    first, second = files.by_number(ONE), files.by_number(TWO)
    assert first and second and (first.id, second.id) == ("b", "a") and files.problems == []


def test_put_writes_where_the_agent_lies_or_anew(tmp_path: Path) -> None:
    write(tmp_path, "some name.json", agent("a", ONE))
    files = loaded(tmp_path)
    assert files.put(json.dumps(agent("a", ONE, name="New"))).name == "New"
    assert files.put(agent("b", TWO)).id == "b"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.json", "some name.json"]
    again = loaded(tmp_path)
    found = again.get("a")
    assert found and found.name == "New" and files.get("a") == found
    assert (tmp_path / "b.json").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (agent("a", greting="x"), "did you mean 'greeting'"),
        (agent("b", ONE), "already belongs to agent 'A'"),
        (b"\xff", "not UTF-8"),
        ("{", "not JSON"),
    ],
)
def test_put_refuses_what_is_broken_and_writes_nothing(tmp_path: Path, data: Any, reason: str) -> None:
    write(tmp_path, "a.json", agent("a", ONE))
    files = loaded(tmp_path)
    before = (tmp_path / "a.json").read_bytes()
    with pytest.raises(AgentError, match=reason):
        files.put(data)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_bytes() == before


def test_put_does_not_write_over_another_agents_file(tmp_path: Path) -> None:
    write(tmp_path, "b.json", agent("a"))
    with pytest.raises(AgentError, match="the file holds agent 'a'"):
        loaded(tmp_path).put(agent("b"))


def test_put_mends_a_broken_file(tmp_path: Path) -> None:
    write(tmp_path, "ok.json", agent("ok"))
    write(tmp_path, "b.json", "{")
    files = loaded(tmp_path)
    files.put(agent("b"))
    assert files.get("b") and files.problems == []


def test_a_folder_that_is_away_for_a_while_costs_no_agent(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "agents", tmp_path / "elsewhere"
    folder.mkdir()
    write(folder, "a.json", agent("a", ONE))
    files = loaded(folder)
    folder.rename(elsewhere)
    for _ in range(3):
        files.reload_changed()
        assert files.by_number(ONE) is not None
        (problem,) = files.problems
        assert "its agents stay in use as they were" in str(problem)
    elsewhere.rename(folder)
    assert files.reload_changed()
    assert files.problems == [] and [one.id for one in files.all()] == ["a"]


@pytest.mark.parametrize("error", [errno.EMFILE, errno.EACCES, errno.EIO])
def test_whatever_keeps_the_folder_from_being_read_it_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    write(tmp_path, "a.json", agent("a", ONE))
    files = loaded(tmp_path)

    def refuse(path: object) -> list[str]:
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as context:
        context.setattr(os, "listdir", refuse)
        assert files.reload_changed() and not files.reload_changed(), "told once"
        assert os.strerror(error) in str(files.problems[0])
    assert [one.id for one in files.all()] == ["a"]


def test_a_folder_that_became_empty_costs_no_agent(tmp_path: Path) -> None:
    """As one does whose volume is not mounted."""
    write(tmp_path, "a.json", agent("a", ONE))
    files = loaded(tmp_path)
    (tmp_path / "a.json").unlink()
    assert files.reload_changed() and not files.reload_changed(), "told once"
    assert [one.id for one in files.all()] == ["a"]
    (problem,) = files.problems
    assert "holds no agent file any more: its agents stay in use" in str(problem)
    write(tmp_path, "b.json", agent("b", TWO))
    assert files.reload_changed()
    assert [one.id for one in files.all()] == ["b"] and files.problems == []


def test_a_pipe_among_the_files_is_told_and_not_waited_for(tmp_path: Path) -> None:
    write(tmp_path, "a.json", agent("a", ONE))
    files = loaded(tmp_path)
    os.mkfifo(tmp_path / "f.json")
    assert files.reload_changed()
    assert [str(problem) for problem in files.problems] == ["f.json: cannot be read: it is no file"]
    assert [one.id for one in files.all()] == ["a"]


class Disk:
    """Reads files, and cannot while there is an `error`."""

    def __init__(self) -> None:
        self.error: int | None = None

    def read(self, path: Path) -> bytes:
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))
        return path.read_bytes()


@pytest.mark.parametrize("error", [errno.EIO, errno.EACCES, errno.ENOENT])
def test_a_file_that_could_not_be_read_once_is_read_at_the_next_look(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: int
) -> None:
    write(tmp_path, "a.json", agent("a", ONE, name="First"))
    disk = Disk()
    files = AgentFiles(tmp_path, read=disk.read)
    files.load()
    write(tmp_path, "a.json", agent("a", ONE, name="Second"))
    write(tmp_path, "b.json", agent("b", TWO))
    disk.error = error
    with caplog.at_level(logging.ERROR):
        assert files.reload_changed() and not files.reload_changed(), "told once"
    assert [str(problem) for problem in files.problems] == [
        f"{name}: cannot be read: {os.strerror(error)}" for name in ("a.json", "b.json")
    ]
    assert caplog.text.count(f"a.json: cannot be read: {os.strerror(error)}") == 1
    assert [one.name for one in files.all()] == ["First"], "the last good version stays in use"
    disk.error = None
    assert files.reload_changed(), "though nothing about the files has changed"
    assert [one.name for one in files.all()] == ["Second", "B"] and files.problems == []
    assert not files.reload_changed()


def test_a_file_that_cannot_be_looked_at_is_told_and_costs_no_agent(tmp_path: Path) -> None:
    write(tmp_path, "a.json", agent("a", ONE))
    files = loaded(tmp_path)
    (tmp_path / "a.json").rename(tmp_path / "kept")
    (tmp_path / "a.json").symlink_to("a.json")  # of a loop of links nothing can be found out
    assert files.reload_changed() and not files.reload_changed()
    assert [str(problem) for problem in files.problems] == [
        f"a.json: cannot be read: {os.strerror(errno.ELOOP)}"
    ]
    assert files.by_number(ONE) is not None
    (tmp_path / "kept").replace(tmp_path / "a.json")
    assert files.reload_changed() and files.problems == []


def test_a_file_that_is_too_large_is_told_once_and_not_read(tmp_path: Path) -> None:
    write(tmp_path, "a.json", agent("a", ONE))
    files = loaded(tmp_path)
    write(tmp_path, "a.json", " " * 1_000_001)
    assert files.reload_changed() and not files.reload_changed()
    assert [str(problem) for problem in files.problems] == [
        "a.json: cannot be read: larger than 1000000 bytes"
    ]
    assert files.by_number(ONE) is not None


def test_put_says_when_the_folder_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "agents"
    folder.mkdir()
    write(folder, "a.json", agent("a"))
    files = loaded(folder)
    (folder / "a.json").unlink()
    folder.rmdir()
    with pytest.raises(AgentError, match="cannot be written"):
        files.put(agent("b"))


def test_warnings_are_kept(tmp_path: Path) -> None:
    spare = {"id": "spare", "actions": [{"type": "hangup"}]}
    write(tmp_path, "a.json", agent("a", call_flow=BYE | {"nodes": [*BYE["nodes"], spare]}))
    assert loaded(tmp_path).warnings == ["a.json: call_flow.nodes[1]: node 'spare' is never reached"]


def test_the_published_schema_is_current(tmp_path: Path) -> None:
    published = (HERE / "agents" / SCHEMA_NAME).read_text(encoding="utf-8")
    assert published == schema_text(), "run: python -m backend.storage.agent_files"
    assert write_schema(tmp_path).read_text(encoding="utf-8") == published


def test_the_schema_knows_every_field_and_no_other() -> None:
    schema = json.loads(schema_text())
    assert schema["additionalProperties"] is False
    assert {"$schema", "id", "tts_provider", "call_flow", "turns", "tools"} <= schema["properties"].keys()
    assert set(schema["required"]) == {"id", "name", "call_flow"}


@pytest.mark.parametrize("wanted", ["desk", "DESK", "Front Desk!", "front-desk", "mine", "mine.json"])
def test_an_agent_is_found_by_what_people_call_it(tmp_path: Path, wanted: str) -> None:
    write(tmp_path, "mine.json", agent("desk", name="Front Desk!"))
    write(tmp_path, "other.json", agent("other"))
    found = loaded(tmp_path).find(wanted)
    assert found is not None and found.id == "desk"


def test_an_id_is_found_before_another_agents_name_or_file(tmp_path: Path) -> None:
    write(tmp_path, "a.json", agent("one", name="Two"))
    write(tmp_path, "two.json", agent("three"))
    write(tmp_path, "z.json", agent("two", name="Last"))
    found = loaded(tmp_path).find("two")
    assert found is not None and found.name == "Last"
    assert loaded(tmp_path).find("../two") is None

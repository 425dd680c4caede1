"""Suites: what is read, what is shared, and what a mistake is told as."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backend.evals.command import EvalOptions, choose
from backend.evals.suite import Suite, SuiteError, load_suite, suite_schema
from backend.storage.agent_files import AgentFiles

ROOT = Path(__file__).parents[3]
SUITES = sorted(path for path in (ROOT / "evals").glob("*.json") if not path.name.endswith(".schema.json"))


def written(folder: Path, **changes: Any) -> Path:
    case = {"id": "one", "steps": [{"say": "Hello."}], "expect": {"ends_by": "caller"}}
    path = folder / "suite.json"
    path.write_text(json.dumps({"name": "Mine", "agent": "front-desk", "cases": [case], **changes}))
    return path


def test_what_the_suite_says_holds_for_cases_that_say_nothing_else(tmp_path: Path) -> None:
    cases = [
        {"id": "one", "expect": {"ends_by": "agent"}, "variables": {"name": "Bob"}},
        {"id": "two", "line": {"codec": "PCMA"}, "steps": [{"say": "Hi."}, {"say": "Ho.", "noise_db": -5}]},
    ]
    suite = load_suite(
        written(
            tmp_path, cases=cases, expect={"ends_by": "caller", "max_seconds": 9}, line={"noise_db": -10},
            variables={"name": "Maria", "day": "Monday"},
        )
    )  # fmt: skip
    one, two = suite.cases
    assert (one.expect.ends_by, one.expect.max_seconds) == ("agent", 9)
    assert (two.expect.ends_by, two.expect.max_seconds) == ("caller", 9)
    assert one.variables == {"name": "Bob", "day": "Monday"}
    assert (one.line.noise_db, two.line.noise_db, two.line.codec) == (-10, None, "PCMA")


def test_a_line_s_noise_is_behind_all_that_is_said(tmp_path: Path) -> None:
    steps = [{"say": "Hi."}, {"say": "Ho.", "noise_db": -5}, {"press": "1"}]
    suite = load_suite(written(tmp_path, cases=[{"id": "one", "line": {"noise_db": -12}, "steps": steps}]))
    assert suite.cases[0].script_document()["steps"] == [
        {"say": "Hi.", "noise_db": -12.0}, {"say": "Ho.", "noise_db": -5}, {"press": "1"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"cases": [{"id": "x", "expect": {"node": ["a"]}}]},
            "cases[0].expect.node: is no field; did you mean 'nodes'?",
        ),
        (
            {"cases": [{"id": "x", "steps": [{"sya": "a"}]}]},
            "cases[0].steps[0]: unknown field 'sya'; did you mean 'say'?",
        ),
        ({"cases": [{"id": "x"}, {"id": "x"}]}, "two cases have the id 'x'"),
        ({"cases": []}, "cases: is empty"),
        (
            {"cases": [{"id": "a b", "steps": []}]},
            "cases[0].id: 'a b' is not a name of letters, digits, '.', '_' and '-'",
        ),
        ({"agnet": "x"}, "agnet: is no field; did you mean 'agent'?"),
        ({"pass_rate": 2}, "pass_rate: "),
        ({"cases": [{"steps": []}]}, "cases[0].id: is missing"),
        ({"cases": [{"id": "x", "line": {"codec": "G729"}}]}, "cases[0].line.codec: "),
        ({"cases": ["x"]}, "cases[0]: "),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_file_field_and_reason(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    path = written(tmp_path, **changes)
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert sentence in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_what_the_agent_does_not_have_is_a_mistake_and_not_proven_absent(tmp_path: Path) -> None:
    agents = AgentFiles(ROOT / "agents")
    agents.load()
    front_desk = agents.by_number("+15550100001")
    assert front_desk is not None
    expect = {"never_nodes": ["humann"], "ends_at": "booked", "never_tools": ["pay"]}
    path = written(tmp_path, expect=expect)
    with pytest.raises(SuiteError) as caught:
        choose(EvalOptions((path,), "text"), lambda _: front_desk)
    assert str(caught.value).splitlines() == [
        f"{path}: one: expect.never_nodes: Willow Clinic front desk has no 'humann'; did you mean 'human'?",
        f"{path}: one: expect.never_tools: Willow Clinic front desk has no 'pay'; known are none",
    ]
    assert choose(EvalOptions((path,), "text", agent="another"), lambda _: front_desk)


def test_all_mistakes_of_all_suites_are_told_at_once(tmp_path: Path) -> None:
    agents = AgentFiles(ROOT / "agents")
    agents.load()
    front_desk = agents.by_number("+15550100001")
    assert front_desk is not None
    cases = [
        {"id": "one", "steps": [{"sya": "hi"}, {"say": "Hello."}, {"press": "x"}]},
        {"id": "two", "expect": {"node": ["x"]}},
        {"id": "three", "expect": {"nodes": ["nowhere"]}},
        {"id": "three"},
    ]
    path = written(tmp_path, cases=cases, expect={})
    other = path.with_name("other.json")
    other.write_text("{")
    with pytest.raises(SuiteError) as caught:
        choose(EvalOptions((path, other), "text"), lambda _: front_desk)
    lines = [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()]
    assert lines[:4] == [
        "cases[0].steps[0]: unknown field 'sya'; did you mean 'say'?",
        "cases[0].steps[2]: press: keys are 0-9, *, # and A-D, given as text",
        "cases[1].expect.node: is no field; did you mean 'nodes'?",
        "two cases have the id 'three'",
    ]
    assert "is not JSON" in lines[4]
    assert lines[5].startswith("three: expect.nodes: Willow Clinic front desk has no 'nowhere'")
    assert len(lines) == 6


def test_what_is_no_json_or_no_file_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(SuiteError, match="is not JSON"):
        load_suite(broken)
    broken.write_text("[]")
    with pytest.raises(SuiteError, match="is no suite: expected"):
        load_suite(broken)
    with pytest.raises(SuiteError, match="cannot be read: No such file"):
        load_suite(tmp_path / "none.json")


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_shipped_suites_are_sound_and_named_for_editors(path: Path) -> None:
    assert isinstance(load_suite(path), Suite)
    assert json.loads(path.read_text())["$schema"] == "./suite.schema.json"


def test_the_published_schema_is_that_of_the_code() -> None:
    published = json.loads((ROOT / "evals" / "suite.schema.json").read_text())
    assert published == suite_schema(), "run: python -m backend.evals.suite > evals/suite.schema.json"
    step = published["$defs"]["Case"]["properties"]["steps"]["items"]
    assert {"$ref": "#/$defs/Press"} in step["anyOf"]

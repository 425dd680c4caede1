"""Reports of runs: what CI and people read, and what the command says and returns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as xml

import pytest
from typer.testing import CliRunner

from backend.cli import app
from backend.evals.html import write_html
from backend.evals.junit import junit
from backend.evals.results import Attempt, CaseResult, SuiteResult, all_passed
from backend.evals.suite import Suite
from backend.evals.verdicts import Judgement

ROOT = Path(__file__).parents[3]
GOOD, BAD = Judgement("nodes", "a → b", "a → b", True), Judgement("says <hi> &", "b\x00ye", "nothing", False)


def result(*cases: list[Judgement], pass_rate: float = 1.0, complete: bool = True) -> SuiteResult:
    document: dict[str, Any] = {
        "name": "Mine <&>", "agent": "x", "pass_rate": pass_rate,
        "cases": [{"id": f"case-{number}"} for number in range(len(cases))],
    }  # fmt: skip
    suite = Suite.model_validate(document)
    held = tuple(
        CaseResult(case, "text", (Attempt(1, 0.5, tuple(judgements)),))
        for case, judgements in zip(suite.cases, cases, strict=True)
    )
    return SuiteResult(suite, "mine.json", "X", "text", held, complete)


def test_junit_counts_and_names_what_did_not_hold() -> None:
    document = xml.fromstring(junit([result([GOOD], [GOOD, BAD])]))
    assert (document.get("tests"), document.get("failures"), document.get("time")) == ("2", "1", "1.000")
    failure = document.find(".//testcase[@name='case-1']/failure")
    assert failure is not None
    assert failure.get("message") == "says <hi> &: wanted b�ye, was nothing"
    assert document.find(".//testcase[@name='case-0']/failure") is None


def test_a_case_that_the_pass_rate_forgives_is_no_failure() -> None:
    forgiving = result([GOOD], [BAD], pass_rate=0.5)
    assert forgiving.passed
    document = xml.fromstring(junit([forgiving]))
    (suite,) = document
    assert (suite.get("failures"), suite.get("skipped")) == ("0", "1")
    assert "skipped" not in document.attrib  # Jenkins' schema has none there, and its plugin refuses it


def test_an_interrupted_run_has_not_passed() -> None:
    cut = result([GOOD], complete=False)
    assert not all_passed([cut])
    assert xml.fromstring(junit([cut])).get("errors") == "1"
    assert not all_passed([])


def test_the_page_needs_nothing_from_elsewhere_and_escapes_what_was_said(tmp_path: Path) -> None:
    page = write_html([result([GOOD], [BAD])], tmp_path).read_text(encoding="utf-8")
    assert "1 of 2 cases pass" in page
    assert "Mine &lt;&amp;&gt;" in page
    assert '<a href="#0-case-1">case-1</a>' in page and '<details id="0-case-1" open>' in page
    assert 'href="#0-case-0"' not in page
    assert "<hi>" not in page
    assert "http" not in page


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["eval", *arguments, "--agents-dir", str(ROOT / "agents")])
    return done.exit_code, " ".join(done.output.split())


def test_a_run_writes_both_reports_and_returns_0(tmp_path: Path) -> None:
    code, out = run(
        str(ROOT / "evals" / "reminder.json"), "-k", "wrong-person",
        "--junit", str(tmp_path / "a" / "junit.xml"), "--html", str(tmp_path / "html"),
    )  # fmt: skip
    assert code == 0, out
    assert "✓ wrong-person" in out
    assert "1 of 1 cases pass" in out
    assert xml.parse(tmp_path / "a" / "junit.xml").getroot().get("tests") == "1"
    assert "wrong number" in (tmp_path / "html" / "index.html").read_text(encoding="utf-8")


def test_what_does_not_hold_is_told_and_returns_1(tmp_path: Path) -> None:
    suite = json.loads((ROOT / "evals" / "reminder.json").read_text())
    case = next(case for case in suite["cases"] if case["id"] == "wrong-person")
    suite["cases"] = [{**case, "expect": {"ends_at": "moved", "never_says": ["sorry"]}}]
    path = tmp_path / "suite.json"
    path.write_text(json.dumps(suite))
    code, out = run(str(path))
    assert code == 1
    assert "ends at node: wanted moved, was wrong_person" in out
    assert "the agent never says: wanted sorry, was said" in out
    assert "0 of 1 cases pass" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["none.json"], "none.json does not exist"),
        ([str(ROOT / "docs")], "holds no suite"),
        ([str(ROOT / "evals"), "-k", "nobody"], "no case fits; known are books-an-appointment"),
        ([str(ROOT / "evals"), "-k", "lost-and-late"], "in real audio only (modes): --audio"),
        ([str(ROOT / "evals"), "--agent", "nobody"], "there is no agent nobody"),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[str], sentence: str) -> None:
    code, out = run(*arguments)
    assert code == 1
    assert sentence in out
    assert "Traceback" not in out


def test_reports_that_cannot_be_written_are_found_before_any_call(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for option, target in (("--junit", tmp_path), ("--html", tmp_path / "file" / "html")):
        code, out = run(str(ROOT / "evals" / "reminder.json"), option, str(target))
        assert code == 1
        assert "cannot be written" in out
        assert "calls in text" not in out

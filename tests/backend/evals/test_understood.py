"""What the recogniser made of the caller's words, as `eval --audio` prints it beneath a case that failed."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from backend.evals.command import CallTeller
from backend.evals.results import Attempt
from backend.evals.runner import Job
from backend.evals.suite import load_suite
from backend.evals.text_call import run_text
from backend.evals.verdicts import Judgement, call_report
from backend.simulator.call_run import Evidence
from backend.storage.agent_files import AgentFiles

ROOT = Path(__file__).parents[3]
BAD = Judgement("ends at node", "bye", "ask", ok=False)
GOOD = Judgement("ends at node", "bye", "bye", ok=True)


def told(*, ok: bool, heard: bool) -> tuple[str, list[str]]:
    """What is printed of a call whose first words were understood otherwise; and all that the caller said."""
    files = AgentFiles(ROOT / "agents")
    files.load()
    agent = files.find("reminder")
    assert agent is not None
    suite = load_suite(ROOT / "evals" / "reminder.json")
    case = next(case for case in suite.cases if len(case.script.spoken) > 1)
    evidence = run_text(agent, case.script, "outbound", case.variables)
    turns = [dict(turn) for turn in evidence.call["turns"]]
    first, *others = [turn for turn in turns if turn["role"] == "caller"]
    first["text"] = "or Friday"
    others[0]["text"] = others[0]["text"].upper()
    evidence = Evidence(evidence.line, {**evidence.call, "turns": turns}, evidence.wav)
    report = call_report(evidence)
    shown = io.StringIO()
    attempt = Attempt(1, 0.5, (GOOD if ok else BAD,), report, evidence, heard=heard)
    CallTeller(Console(file=shown, width=110))(Job(suite, "reminder.json", agent, (case,)), case, attempt)
    return shown.getvalue(), [span.text for span in report.spans if span.role == "caller"]


def test_what_was_understood_otherwise_stands_beneath_a_case_that_failed() -> None:
    shown, said = told(ok=False, heard=True)
    assert [line for line in shown.splitlines() if "understood" in line] == [
        f"    caller: {said[0]} · understood: or Friday"
    ]


def test_a_case_that_passed_or_was_held_in_writing_says_nothing_of_it() -> None:
    assert "understood" not in told(ok=True, heard=True)[0]
    assert "understood" not in told(ok=False, heard=False)[0]

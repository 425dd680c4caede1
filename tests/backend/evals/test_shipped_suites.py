"""Every suite that ships, in writing: a minute's call takes a fraction of a second."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.core.agent import Agent
from backend.evals.command import EvalOptions, choose
from backend.evals.runner import Run
from backend.storage.agent_files import AgentFiles

ROOT = Path(__file__).parents[3]
SUITES = [path for path in (ROOT / "evals").glob("*.json") if not path.name.endswith(".schema.json")]


def shipped(wanted: str) -> Agent:
    files = AgentFiles(ROOT / "agents")
    files.load()
    return next(agent for agent in files.all() if (agent.id == "reminder") == (wanted == "reminder"))


@pytest.mark.parametrize("path", sorted(SUITES), ids=lambda path: path.stem)
def test_every_shipped_caller_gets_through(path: Path) -> None:
    # In writing no noise is heard: of the twenty callers on noisy lines a few will do.
    words = ("street", "human", "hours") if path.stem == "noisy-lines" else ()
    run = Run(choose(EvalOptions((path,), words=words), shipped), "text", lambda job, case, attempt: None)
    run.in_text()
    (result,) = run.results
    complaints = [(case.case.id, attempt.complaints) for case in result.cases for attempt in case.attempts]
    assert [(name, lines) for name, lines in complaints if lines] == []
    assert result.complete


def test_an_agent_that_does_something_else_is_found_out() -> None:
    path = ROOT / "evals" / "reminder.json"
    agent = shipped("reminder")
    nodes = [
        node.model_copy(update={"transitions": node.transitions[1:]}) if node.id == "remind" else node
        for node in agent.call_flow.nodes
    ]
    broken = agent.model_copy(
        update={"call_flow": agent.call_flow.model_copy(update={"nodes": tuple(nodes)})}
    )
    jobs = choose(EvalOptions((path,), words=("moves-it",)), lambda _: broken)
    run = Run(jobs, "text", lambda job, case, attempt: None)
    run.in_text()
    (attempt,) = run.results[0].cases[0].attempts
    assert not attempt.passed
    assert any(line.startswith("nodes: wanted remind → new_day → moved") for line in attempt.complaints)
    assert any("the caller gets through the script" in line for line in attempt.complaints)

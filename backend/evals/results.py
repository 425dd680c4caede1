"""What a run of suites gave, and whether that is enough: plain values. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backend.evals.suite import Case, Mode, Suite
from backend.evals.verdicts import Judgement
from backend.simulator.call_run import Evidence
from backend.simulator.report import CallReport


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of a case. `problem`: why it could not be held or judged; the rest is then missing.

    `blameless`: the problem is none of the agent's.
    """

    number: int
    took_s: float
    judgements: tuple[Judgement, ...] = ()
    report: CallReport | None = None
    evidence: Evidence | None = None
    problem: str = ""
    heard: bool = False  # it was held in real sound
    blameless: bool = False

    @property
    def passed(self) -> bool:
        return not self.problem and all(judgement.ok for judgement in self.judgements)

    @property
    def complaints(self) -> list[str]:
        """What did not hold, a sentence each."""
        broken = [
            f"{item.name}: wanted {item.wanted}, was {item.found}" for item in self.judgements if not item.ok
        ]
        return [self.problem, *broken] if self.problem else broken


@dataclass(frozen=True, slots=True)
class CaseResult:
    """A case and its calls."""

    case: Case
    mode: Mode
    attempts: tuple[Attempt, ...]

    @property
    def share(self) -> float:
        """Of the calls, how many passed."""
        return sum(attempt.passed for attempt in self.attempts) / max(1, len(self.attempts))

    @property
    def passed(self) -> bool:
        return bool(self.attempts) and self.share >= self.case.pass_rate

    @property
    def blameless(self) -> bool:
        """Whether it did not pass, and nothing of that is the agent's."""
        return not self.passed and all(attempt.passed or attempt.blameless for attempt in self.attempts)

    @property
    def took_s(self) -> float:
        return sum(attempt.took_s for attempt in self.attempts)


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """A suite and those of its cases that were run. `complete`: none was left out by an interruption."""

    suite: Suite
    file: str
    agent: str
    mode: Mode
    cases: tuple[CaseResult, ...]
    complete: bool = True

    @property
    def share(self) -> float:
        """Of the cases, how many passed."""
        return sum(result.passed for result in self.cases) / max(1, len(self.cases))

    @property
    def passed(self) -> bool:
        return bool(self.cases) and self.complete and self.share >= self.suite.pass_rate


def all_passed(results: Sequence[SuiteResult]) -> bool:
    """Whether the run as a whole is good."""
    return bool(results) and all(result.passed for result in results)

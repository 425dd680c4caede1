"""What came of one call against what was expected: a verdict for each expectation. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backend.core.percentile import percentile
from backend.evals.suite import Expect, Mode
from backend.simulator.call_run import Evidence
from backend.simulator.phrases import hears_any
from backend.simulator.report import CallReport, Expected, answer_p50_ms, build_report
from backend.simulator.spoken import spoken_words


@dataclass(frozen=True, slots=True)
class Judgement:
    """One expectation: what was wanted, what was found."""

    name: str
    wanted: str
    found: str
    ok: bool


def call_report(evidence: Evidence) -> CallReport:
    """The call's figures, judged by nothing. Raises KeyError or ValueError for records that are none."""
    return build_report(evidence.line, evidence.call, Expected(answers=False))


def judge_call(evidence: Evidence, report: CallReport, expect: Expect, mode: Mode) -> list[Judgement]:
    """A verdict for each thing expected, and for what any call must do: end, and go as its script says."""
    found = _Found(evidence, report, mode)
    return [*_always(found, expect), *_way(found, expect), *_words(found, expect), *_figures(found, expect)]


class _Found:
    """What a call shows, as expectations ask for it."""

    def __init__(self, evidence: Evidence, report: CallReport, mode: Mode) -> None:
        self.report, self.mode = report, mode
        self.call: Mapping[str, Any] = evidence.call
        self.events: Sequence[Mapping[str, Any]] = evidence.line["events"]
        self.nodes = list(report.nodes)

    def of(self, kind: str) -> list[Mapping[str, Any]]:
        """What the line recorded of a kind."""
        return [event["data"] for event in self.events if event["kind"] == kind]

    @property
    def agent_heard(self) -> str:
        """The agent's words as the caller had them: by ear, and by the backend's own account."""
        by_ear = [span.text for span in self.report.spans if span.role == "agent"]
        said = [turn.heard_text for turn in self.report.agent_turns]
        return " ".join([*by_ear, "|", *said])

    @property
    def agent_said(self) -> str:
        """All that the agent set out to say."""
        return " ".join(turn.text for turn in self.report.agent_turns)

    @property
    def caller_recognised(self) -> str:
        return " ".join(turn.text for turn in self.report.caller_turns)

    @property
    def tools(self) -> list[str]:
        """Tools called, in order."""
        return [str(use["name"]) for use in self.call.get("tools") or ()]

    @property
    def ended_by(self) -> str:
        if self.of("transfer"):
            return "transfer"
        by = [str(data["by"]) for data in self.of("hangup")]
        return by[-1] if by else "nobody"


def _always(found: _Found, expect: Expect) -> Iterator[Judgement]:
    state = str(found.call["state"])
    yield Judgement("the call ends", "ended", state, state == "ended")
    played: Mapping[str, Any] = found.call.get("played_by") or {}
    if played:
        why, cost = str(played["unfinished"]), f"{played['turns']} turns, {played['tokens']} tokens"
        yield Judgement("the played caller comes to an end", "within its bounds", why or cost, not why)
    else:
        failed = [str(data["reason"]) for data in found.of("script_failed")]
        yield Judgement(
            "the caller gets through the script", "all steps", "; ".join(failed) or "all steps", not failed
        )
    if not expect.error:
        error = found.call.get("error")
        yield Judgement("the backend reports no problem", "none", str(error or "none"), not error)


def _way(found: _Found, expect: Expect) -> Iterator[Judgement]:
    way = " → ".join(found.nodes) or "none"
    if expect.nodes:
        rest = iter(found.nodes)
        ok = all(node in rest for node in expect.nodes)
        yield Judgement("nodes", " → ".join(expect.nodes), way, ok)
    for node in expect.never_nodes:
        yield Judgement("never at node", node, way, node not in found.nodes)
    if expect.ends_at is not None:
        last = found.nodes[-1] if found.nodes else "none"
        yield Judgement("ends at node", expect.ends_at, last, last == expect.ends_at)
    if expect.ends_by is not None:
        yield Judgement("ended by", expect.ends_by, found.ended_by, found.ended_by == expect.ends_by)
    if expect.hangup_cause is not None:
        cause = str(found.call.get("hangup_cause"))
        yield Judgement("hang-up cause", expect.hangup_cause, cause, cause == expect.hangup_cause)
    if expect.transfer_to is not None:
        to = ", ".join(str(data["to"]) for data in found.of("transfer")) or "nobody"
        yield Judgement("transferred to", expect.transfer_to, to, to == expect.transfer_to)
    variables: Mapping[str, str] = found.call.get("variables") or {}
    for name, wanted in expect.collected.items():
        value = variables.get(name)
        ok = value is not None and _same(value, wanted)
        yield Judgement(f"collected {name}", wanted, "nothing" if value is None else value, ok)
    if expect.tools:
        rest_tools = iter(found.tools)
        ok = all(tool in rest_tools for tool in expect.tools)
        yield Judgement("tools", " → ".join(expect.tools), " → ".join(found.tools) or "none", ok)
    for tool in expect.never_tools:
        yield Judgement("never calls", tool, ", ".join(found.tools) or "none", tool not in found.tools)


def _words(found: _Found, expect: Expect) -> Iterator[Judgement]:
    for phrase in expect.says:
        ok = hears_any([phrase], found.agent_heard)
        yield Judgement("the agent says", phrase, "heard" if ok else "not heard", ok)
    for phrase in expect.never_says:
        there = _holds(found.agent_said, phrase)
        yield Judgement("the agent never says", phrase, "said" if there else "not said", not there)
    for phrase in expect.hears:
        ok = hears_any([phrase], found.caller_recognised)
        yield Judgement("the agent understands", phrase, found.caller_recognised or "nothing", ok)


def _figures(found: _Found, expect: Expect) -> Iterator[Judgement]:
    report = found.report
    if expect.interruptions is not None:
        cut = sum(turn.interrupted for turn in report.agent_turns)
        yield Judgement("turns cut short", str(expect.interruptions), str(cut), cut == expect.interruptions)
    if expect.barge_in_ms is not None:
        took = [barge_in.took_ms for barge_in in report.barge_ins]
        yield _within("silent after an interruption", expect.barge_in_ms, took, max)
    answers = [answer.line_ms for answer in report.answers if answer.line_ms >= 0]
    if expect.answer_p50_ms is not None:
        yield _within(
            "answer, p50", expect.answer_p50_ms, answers, lambda _: answer_p50_ms(report.answers) or 0.0
        )
    if expect.answer_p95_ms is not None:
        yield _within("answer, p95", expect.answer_p95_ms, answers, lambda values: percentile(values, 95))
    if expect.word_errors is not None and found.mode == "audio":
        rate = report.words.rate
        yield Judgement(
            "word errors",
            f"≤ {100 * expect.word_errors:.1f} %",
            f"{100 * rate:.1f} %",
            rate <= expect.word_errors,
        )
    if expect.max_seconds is not None:
        seconds = report.duration_ms / 1000
        yield Judgement(
            "call's length", f"≤ {expect.max_seconds:g} s", f"{seconds:.1f} s", seconds <= expect.max_seconds
        )


def _within(
    name: str, limit_ms: float, values: Iterable[float], of: Callable[[list[float]], float]
) -> Judgement:
    known = list(values)
    if not known:
        return Judgement(name, f"≤ {limit_ms:.0f} ms", "never happened", False)
    value = of(known)
    return Judgement(name, f"≤ {limit_ms:.0f} ms", f"{value:.0f} ms", value <= limit_ms)


def _same(value: str, wanted: str) -> bool:
    return value.strip().casefold() == wanted.strip().casefold() or spoken_words(value) == spoken_words(
        wanted
    )


def _holds(text: str, phrase: str) -> bool:
    """Word by word, so that what must never be said is not found in words like it."""
    have, want = spoken_words(text), spoken_words(phrase)
    return bool(want) and any(have[at : at + len(want)] == want for at in range(len(have) - len(want) + 1))

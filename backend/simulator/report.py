"""One call, judged: what the line recorded and what the backend remembers → latencies, words, verdicts.

Takes the two JSON documents (the stand-in's line record, the backend's `GET /api/v1/calls/{id}`) and
decides; knows nothing of sockets, files or how the figures are printed. All times are milliseconds since
the call's media started.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from backend.core.percentile import percentile
from backend.simulator.wordcount import WordErrors, word_errors

Severity = Literal["hard", "latency"]

WORD_ERRORS_LIMIT = 0.05
BARGE_IN_LIMIT_MS = 250.0
ANSWER_P50_LIMIT_MS = 900.0
CHUNK_TO_FRAME_P95_LIMIT_MS = 10.0

# The line's and the backend's clocks start at either end of one socket; what they call the same moment
# differs by a little more than its latency.
_SAME_MOMENT_MS = 1_500.0


@dataclass(frozen=True, slots=True)
class Expected:
    """What the call was meant to do. `nodes` must be visited in this order, others may come between."""

    nodes: tuple[str, ...] = ()
    interruptions: int = 0
    ends: Literal["agent", "caller", "transfer"] | None = None
    answers: bool = True


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one side's speech on the line, as the other side's ears had it."""

    role: Literal["agent", "caller"]
    start_ms: float
    end_ms: float
    text: str


@dataclass(frozen=True, slots=True)
class AgentTurn:
    """What the backend remembers of one turn of the agent."""

    index: int
    node_id: str
    text: str
    heard_text: str
    started_ms: float
    ended_ms: float
    interrupted: bool
    route: str
    timings: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class CallerTurn:
    """What the backend remembers of one turn of the caller."""

    index: int
    text: str
    via: str
    started_ms: float
    ended_ms: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The agent's answer to the caller. Steps are ms after the backend noticed that the caller was silent;
    `line_ms` is what the caller lived through: end of their speech → the agent's first sound on the line.
    """

    turn: AgentTurn
    caller_end_ms: float
    agent_start_ms: float
    recognised_ms: float | None
    turn_ended_ms: float | None
    text_ready_ms: float | None
    first_chunk_ms: float | None
    first_frame_ms: float | None
    heard_ms: float | None

    @property
    def line_ms(self) -> float:
        """Negative when the agent began while the caller was still speaking."""
        return self.agent_start_ms - self.caller_end_ms


@dataclass(frozen=True, slots=True)
class BargeIn:
    """The caller began to speak over the agent at `speech_start_ms`; the agent fell silent at `silent_ms`."""

    speech_start_ms: float
    silent_ms: float

    @property
    def took_ms(self) -> float:
        return self.silent_ms - self.speech_start_ms


@dataclass(frozen=True, slots=True)
class Verdict:
    """One must-hold with its figure. `hard` ones are about right and wrong, `latency` ones about speed."""

    name: str
    figure: str
    limit: str
    ok: bool
    severity: Severity
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CallReport:
    """Everything a page, a picture or a table about one call needs."""

    direction: str
    codec: str
    state: str
    duration_ms: float
    spans: tuple[Span, ...]
    keys: tuple[tuple[float, str], ...]
    agent_turns: tuple[AgentTurn, ...]
    caller_turns: tuple[CallerTurn, ...]
    nodes: tuple[str, ...]
    answers: tuple[Answer, ...]
    barge_ins: tuple[BargeIn, ...]
    gaps_ms: tuple[float, ...]
    words: WordErrors
    ending: str
    verdicts: tuple[Verdict, ...]

    def broken(self, *, lenient_latency: bool = False) -> tuple[Verdict, ...]:
        """The verdicts that fail the call; without those about speed when `lenient_latency`."""
        return tuple(
            verdict
            for verdict in self.verdicts
            if not verdict.ok and not (lenient_latency and verdict.severity == "latency")
        )


def build_report(line: Mapping[str, Any], call: Mapping[str, Any], expected: Expected) -> CallReport:
    """Judge one call from the stand-in's record of the line and the backend's own record of the call.

    Raises KeyError or ValueError when either document lacks what its contract promises.
    """
    events = sorted(line["events"], key=lambda event: float(event["t_ms"]))
    turns = sorted(call["turns"], key=lambda turn: int(turn["index"]))
    agent_turns = tuple(_agent_turn(turn) for turn in turns if turn["role"] == "agent")
    caller_turns = tuple(_caller_turn(turn) for turn in turns if turn["role"] == "caller")
    spans = _spans(events)
    answers = _answers(spans, agent_turns)
    barge_ins = tuple(
        BargeIn(float(data["speech_start_ms"]), float(data["last_agent_audio_ms"]))
        for data in _of(events, "interrupt")
    )
    gaps_ms = tuple(float(data["ms"]) for data in _of(events, "underrun"))
    words = word_errors(
        " ".join(turn.heard_text for turn in agent_turns),
        " ".join(span.text for span in spans if span.role == "agent"),
    )
    ended_by, ending = _ending(events)
    nodes = tuple(map(str, call.get("nodes") or _visited(agent_turns)))
    verdicts = (
        _judge_words(words),
        _judge_gaps(gaps_ms),
        _judge_flow(str(call["state"]), _problem(events, call), ended_by, ending, expected),
        *([_judge_nodes(nodes, expected.nodes)] if expected.nodes else []),
        *(
            [_judge_barge_in(barge_ins, expected.interruptions)]
            if expected.interruptions or barge_ins
            else []
        ),
        *(_judge_speed(answers, agent_turns) if expected.answers else []),
    )
    return CallReport(
        direction=str(line["direction"]),
        codec=str(line["codec"]),
        state=str(call["state"]),
        duration_ms=float(line["duration_ms"]),
        spans=spans,
        keys=tuple(
            (float(event["t_ms"]), str(event["data"]["digit"])) for event in events if event["kind"] == "dtmf"
        ),
        agent_turns=agent_turns,
        caller_turns=caller_turns,
        nodes=nodes,
        answers=answers,
        barge_ins=barge_ins,
        gaps_ms=gaps_ms,
        words=words,
        ending=ending,
        verdicts=verdicts,
    )


def answer_p50_ms(answers: Iterable[Answer]) -> float | None:
    """Median of what the caller waited. Talking over the caller is not a fast answer and does not count."""
    waited_ms = [answer.line_ms for answer in answers if answer.line_ms >= 0]
    return statistics.median(waited_ms) if waited_ms else None


def chunk_to_frame_ms(turns: Iterable[AgentTurn]) -> list[float]:
    """First chunk from the speech route → first frame handed to the carrier, per turn that spoke."""
    return [
        turn.timings["first_frame_ms"] - turn.timings["first_chunk_ms"]
        for turn in turns
        if "first_frame_ms" in turn.timings and "first_chunk_ms" in turn.timings
    ]


def _of(events: Iterable[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    return [event["data"] for event in events if event["kind"] == kind]


def _spans(events: Sequence[Mapping[str, Any]]) -> tuple[Span, ...]:
    sides: tuple[tuple[str, Literal["agent", "caller"]], ...] = (
        ("agent_speech", "agent"),
        ("caller_speech", "caller"),
    )
    spans = [
        Span(role, float(data["start_ms"]), float(data["end_ms"]), str(data["text"]))
        for kind, role in sides
        for data in _of(events, kind)
    ]
    return tuple(sorted(spans, key=lambda span: span.start_ms))


def _agent_turn(turn: Mapping[str, Any]) -> AgentTurn:
    timings = {name: float(ms) for name, ms in (turn.get("timings") or {}).items() if ms is not None}
    return AgentTurn(
        index=int(turn["index"]),
        node_id=turn.get("node_id") or "",
        text=str(turn["text"]),
        heard_text=str(turn["heard_text"]),
        started_ms=float(turn["started_ms"]),
        ended_ms=float(turn["ended_ms"]),
        interrupted=bool(turn["interrupted"]),
        route=turn.get("route") or "",
        timings=timings,
    )


def _caller_turn(turn: Mapping[str, Any]) -> CallerTurn:
    return CallerTurn(
        index=int(turn["index"]),
        text=str(turn["text"]),
        via=str(turn.get("via", "speech")),
        started_ms=float(turn["started_ms"]),
        ended_ms=float(turn["ended_ms"]),
    )


def _visited(turns: Iterable[AgentTurn]) -> tuple[str, ...]:
    nodes: list[str] = []
    for turn in turns:
        if turn.node_id and turn.node_id not in nodes[-1:]:
            nodes.append(turn.node_id)
    return tuple(nodes)


def _answers(spans: Sequence[Span], turns: Sequence[AgentTurn]) -> tuple[Answer, ...]:
    """Each agent turn that answers speech, tied to the moments on the line by the clock."""
    answers: list[Answer] = []
    for turn in turns:
        ended, first = turn.timings.get("caller_speech_ended_ms"), turn.timings.get("first_frame_ms")
        if ended is None or first is None:
            continue
        callers = [span for span in spans if span.role == "caller" and span.end_ms <= first + _SAME_MOMENT_MS]
        agents = [
            span for span in spans if span.role == "agent" and abs(span.start_ms - first) <= _SAME_MOMENT_MS
        ]
        if not callers or not agents:
            continue
        agent = min(agents, key=lambda span: abs(span.start_ms - first))
        before = [span for span in callers if span.start_ms < agent.start_ms]
        if before:
            answers.append(_answer(turn, ended, before[-1].end_ms, agent.start_ms))
    return tuple(answers)


def _answer(turn: AgentTurn, ended_ms: float, caller_end_ms: float, agent_start_ms: float) -> Answer:
    def after(name: str) -> float | None:
        at = turn.timings.get(name)
        return None if at is None else at - ended_ms

    return Answer(
        turn=turn,
        caller_end_ms=caller_end_ms,
        agent_start_ms=agent_start_ms,
        recognised_ms=after("recognised_ms"),
        turn_ended_ms=after("turn_ended_ms"),
        text_ready_ms=after("text_ready_ms"),
        first_chunk_ms=after("first_chunk_ms"),
        first_frame_ms=after("first_frame_ms"),
        heard_ms=after("heard_ms"),
    )


def _ending(events: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Who ended the call ("agent", "caller", "transfer" or ""), and a sentence."""
    for event in reversed(events):
        data = event["data"]
        if event["kind"] == "transfer":
            return "transfer", f"transferred to {data['to']}"
        if event["kind"] == "hangup":
            transfers = _of(events, "transfer")
            if transfers:
                return "transfer", f"transferred to {transfers[-1]['to']}"
            by = "caller" if data["by"] == "caller" else "agent"
            return by, f"the {by} hung up"
    return "", "nobody hung up"


def _problem(events: Sequence[Mapping[str, Any]], call: Mapping[str, Any]) -> str:
    """What went wrong in the call's course, from either side; "" when nothing did."""
    failed = [f"the caller gave up: {data['reason']}" for data in _of(events, "script_failed")]
    return "; ".join([*failed, *([str(call["error"])] if call.get("error") else [])])


def _judge_words(words: WordErrors) -> Verdict:
    return Verdict(
        "word errors of what the caller heard",
        f"{100 * words.rate:.1f} % of {words.said_words}",
        f"≤ {100 * WORD_ERRORS_LIMIT:.0f} %",
        words.said_words > 0 and words.rate <= WORD_ERRORS_LIMIT,
        "hard",
        words.differences() if words.said_words else "the backend recorded no words as heard",
    )


def _judge_gaps(gaps_ms: Sequence[float]) -> Verdict:
    detail = ", ".join(f"{gap:.0f} ms" for gap in gaps_ms)
    return Verdict("gaps inside an utterance", str(len(gaps_ms)), "none", not gaps_ms, "hard", detail)


def _judge_flow(state: str, problem: str, ended_by: str, ending: str, expected: Expected) -> Verdict:
    ok = state == "ended" and not problem and (expected.ends is None or ended_by == expected.ends)
    wanted = {"agent": "the agent hangs up", "caller": "the caller hangs up", "transfer": "a transfer"}
    lost = "" if state == "ended" else f"the backend says the call is {state}"
    return Verdict(
        "the flow reached its end",
        ending,
        wanted.get(expected.ends or "", "any end"),
        ok,
        "hard",
        "; ".join(part for part in (lost, problem) if part),
    )


def _judge_nodes(visited: Sequence[str], expected: Sequence[str]) -> Verdict:
    rest = iter(visited)
    missing = [node for node in expected if node not in rest]
    return Verdict(
        "nodes of the flow visited",
        f"{len(expected) - len(missing)} of {len(expected)}",
        "all, in order",
        not missing,
        "hard",
        f"expected {' → '.join(expected)}, was {' → '.join(visited) or 'none'}"
        if missing
        else " → ".join(visited),
    )


def _judge_barge_in(barge_ins: Sequence[BargeIn], expected: int) -> Verdict:
    took = [barge_in.took_ms for barge_in in barge_ins]
    missing = len(took) < expected
    return Verdict(
        "barge-in → last of the agent's audio",
        " · ".join(f"{ms:.0f} ms" for ms in took) or "none happened",
        f"≤ {BARGE_IN_LIMIT_MS:.0f} ms",
        not missing and all(ms <= BARGE_IN_LIMIT_MS for ms in took),
        "hard",
        f"{expected} interruption(s) planned, {len(took)} happened" if missing else "",
    )


def _judge_speed(answers: Sequence[Answer], turns: Sequence[AgentTurn]) -> list[Verdict]:
    waits = [answer.turn_ended_ms for answer in answers if answer.turn_ended_ms is not None]
    hops = chunk_to_frame_ms(turns)
    p50 = answer_p50_ms(answers)
    p95 = percentile(hops, 95) if hops else None
    return [
        Verdict(
            "caller stops → agent's first sound, p50",
            "never" if p50 is None else f"{p50:.0f} ms",
            f"≤ {ANSWER_P50_LIMIT_MS:.0f} ms",
            p50 is not None and p50 <= ANSWER_P50_LIMIT_MS,
            "latency",
            f"of which {statistics.median(waits):.0f} ms wait for the end of the turn" if waits else "",
        ),
        Verdict(
            "first speech chunk → first frame sent, p95",
            "never" if p95 is None else f"{p95:.1f} ms",
            f"≤ {CHUNK_TO_FRAME_P95_LIMIT_MS:.0f} ms",
            p95 is not None and p95 <= CHUNK_TO_FRAME_P95_LIMIT_MS,
            "latency",
        ),
    ]

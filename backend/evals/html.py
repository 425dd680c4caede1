"""A run as a page: what passed and what did not, each call's words, waits, sound and picture.

One folder that needs nothing else: `index.html`, and beside it `calls/` with sound and pictures. Shows what
the results say; decides nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from backend.evals.results import Attempt, CaseResult, SuiteResult
from backend.evals.understood import understood
from backend.simulator.report import AgentTurn, CallReport, Span, answer_p50_ms

_CALLS = "calls"
_STYLE = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")


def write_html(results: Sequence[SuiteResult], folder: Path) -> Path:
    """Write the report; `index.html` of it. Raises OSError when the folder cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    page = "".join(_suite(result, number, folder) for number, result in enumerate(results))
    index = folder / "index.html"
    index.write_text(_page(results, page), encoding="utf-8")
    return index


def _page(results: Sequence[SuiteResult], body: str) -> str:
    cases = [case for result in results for case in result.cases]
    passed = sum(case.passed for case in cases)
    good = bool(results) and all(result.passed for result in results)
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    mode = results[0].mode if results else "text"
    seconds = sum(
        attempt.report.duration_ms / 1000
        for case in cases
        for attempt in case.attempts
        if attempt.report is not None
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{passed}/{len(cases)} calls as tests</title><style>{_STYLE}</style></head><body><main>"
        f'<header><p class="verdict {"ok" if good else "bad"}">{"Passed" if good else "Failed"}</p>'
        f"<h1>{passed} of {len(cases)} cases pass</h1>"
        f"<p>{'Real audio through the whole system' if mode == 'audio' else 'In writing, without sound'} · "
        f"{seconds / 60:.0f} minutes of calls · {made}</p>{_failed(results)}</header>"
        f"{body}<footer>voice-agent eval</footer></main></body></html>\n"
    )


def _failed(results: Sequence[SuiteResult]) -> str:
    """Links to what did not pass, so that nobody has to look for it."""
    links = [
        f'<a href="#{_name(number, case)}">{escape(case.case.id)}</a>'
        for number, result in enumerate(results)
        for case in result.cases
        if not case.passed
    ]
    return f"<p>Did not pass: {', '.join(links)}</p>" if links else ""


def _name(number: int, case: CaseResult) -> str:
    """Of the case on the page and of its files; `number`: its suite's."""
    return f"{number}-{_slug(case.case.id)}"


def _suite(result: SuiteResult, number: int, folder: Path) -> str:
    rows = "".join(_case(case, _name(number, case), result.passed, folder) for case in result.cases)
    must = f"{100 * result.share:.0f} % pass, must be {100 * result.suite.pass_rate:.0f} %"
    left_out = "" if result.complete else ' · <b class="bad">interrupted: not every case was run</b>'
    about = f"<p>{escape(result.suite.description)}</p>" if result.suite.description else ""
    return (
        f'<section><h2><span class="mark {_class(result.passed)}"></span>{escape(result.suite.name)}</h2>'
        f'<p class="dim">{escape(result.agent)} · {escape(result.file)} · {must}{left_out}</p>'
        f"{about}{rows}</section>"
    )


def _case(result: CaseResult, name: str, forgiven: bool, folder: Path) -> str:
    case = result.case
    kind = "ok" if result.passed else "meh" if forgiven else "bad"
    tags = "".join(f'<span class="tag">{escape(tag)}</span>' for tag in case.tags)
    times = "" if len(result.attempts) == 1 else f" · {100 * result.share:.0f} % of {len(result.attempts)}"
    calls = "".join(
        _attempt(attempt, f"{name}-{attempt.number}", case.id, len(result.attempts) > 1, folder)
        for attempt in result.attempts
    )
    about = f'<p class="about">{escape(case.description)}</p>' if case.description else ""
    if case.played_by is not None:
        style = f" ({escape(case.played_by.style)})" if case.played_by.style else ""
        about += f'<p class="dim">played by a language model: {escape(case.played_by.goal)}{style}</p>'
    return (
        f'<details id="{name}"{"" if result.passed else " open"}><summary><span class="mark {kind}"></span>'
        f'<b>{escape(case.id)}</b>{tags}<span class="dim right">{_facts(result)}{times}</span></summary>'
        f'<div class="case">{about}{calls}</div></details>'
    )


def _facts(result: CaseResult) -> str:
    reports = [attempt.report for attempt in result.attempts if attempt.report is not None]
    if not reports:
        return "no call"
    report = reports[0]
    p50 = answer_p50_ms(report.answers)
    answer = "" if p50 is None else f" · answers {p50:.0f} ms"
    return f"{report.codec} · {report.duration_ms / 1000:.0f} s{answer}"


def _attempt(attempt: Attempt, name: str, title: str, numbered: bool, folder: Path) -> str:
    head = f"<h3>Call {attempt.number}</h3>" if numbered else ""
    if attempt.report is None or attempt.evidence is None:
        return f'{head}<p class="bad">{escape(attempt.problem)}</p>'
    return head + _judgements(attempt) + _sound(attempt, name, title, folder) + _talk(attempt)


def _judgements(attempt: Attempt) -> str:
    rows = "".join(
        f'<tr class="{_class(item.ok)}"><td><span class="mark {_class(item.ok)}"></span></td>'
        f"<td>{escape(item.name)}</td><td>{escape(item.wanted)}</td><td>{escape(item.found)}</td></tr>"
        for item in attempt.judgements
    )
    head = "<tr><th></th><th>expected</th><th>wanted</th><th>was</th></tr>"
    return f'<table class="verdicts">{head}{rows}</table>'


def _sound(attempt: Attempt, name: str, title: str, folder: Path) -> str:
    """The player and the picture; a call in writing has neither."""
    assert attempt.report is not None
    assert attempt.evidence is not None
    if not attempt.heard or not attempt.report.spans:
        return ""
    from backend.simulator.timeline import draw_timeline  # matplotlib takes half a second to import

    calls = folder / _CALLS
    calls.mkdir(exist_ok=True)
    wav, png = calls / f"{name}.wav", calls / f"{name}.png"
    wav.write_bytes(attempt.evidence.wav)
    draw_timeline(attempt.report, attempt.evidence.wav, title, png)
    return (
        f'<audio controls preload="none" src="{_CALLS}/{wav.name}"></audio>'
        f'<p class="dim">left: the caller, right: the agent as heard on the line · '
        f'<a href="{_CALLS}/{wav.name}" download>{wav.name}</a></p>'
        f'<a href="{_CALLS}/{png.name}"><img loading="lazy" src="{_CALLS}/{png.name}" '
        f'alt="Both voices on a shared clock"></a>'
    )


def _talk(attempt: Attempt) -> str:
    assert attempt.report is not None
    assert attempt.evidence is not None
    report = attempt.report
    waits = {answer.turn.index: answer for answer in report.answers}
    rows = []
    node = ""
    happened = [*_turns(report), *_tools(attempt.evidence.call.get("tools") or ())]
    for at_ms, turn in sorted(happened, key=lambda item: item[0]):
        if isinstance(turn, AgentTurn):
            moved = f'<span class="node">{escape(turn.node_id)}</span>' if turn.node_id != node else ""
            node = turn.node_id
            answer = waits.get(turn.index)
            wait = "" if answer is None else f"{answer.line_ms:.0f} ms"
            rows.append(_row("agent", at_ms, moved + _heard(turn), wait))
        elif isinstance(turn, _Tool):
            rows.append(_row("tool", at_ms, turn.html, f"{turn.took_ms:.0f} ms"))
        else:
            rows.append(_row("caller", at_ms, turn, ""))
    head = "<tr><th>at</th><th></th><th>words</th><th>answered after, took</th></tr>"
    ending = f'<p class="dim">{escape(report.ending)}</p>'
    return f'<table class="talk">{head}{"".join(rows)}</table>{ending}'


@dataclass(frozen=True, slots=True)
class _Tool:
    html: str
    took_ms: float


def _tools(uses: Iterable[Mapping[str, Any]]) -> Iterator[tuple[float, _Tool]]:
    for use in uses:
        given = ", ".join(f"{name}={json.dumps(value)}" for name, value in use["arguments"].items())
        problem = "" if use["ok"] else f' <span class="bad">{escape(str(use["problem"] or "failed"))}</span>'
        html = f"<code>{escape(use['name'])}({escape(given)})</code>{problem}"
        yield float(use["at_ms"]), _Tool(html, float(use["took_ms"]))


def _turns(report: CallReport) -> Iterator[tuple[float, AgentTurn | str]]:
    for turn in report.agent_turns:
        yield turn.started_ms, turn
    for span in report.spans:
        if span.role == "caller":
            yield span.start_ms, escape(span.text) + _understood(report, span)
    for caller in report.caller_turns:
        if caller.via == "dtmf":
            yield caller.started_ms, f"<kbd>{escape(' '.join(caller.text))}</kbd>"


def _understood(report: CallReport, said: Span) -> str:
    """What the agent made of the words, where it is something else."""
    words = understood(report, said)
    if words is None:
        return ""
    return f' <span class="dim">understood: {escape(words) or "nothing"}</span>'


def _heard(turn: AgentTurn) -> str:
    """The words that reached the caller, and those that did not."""
    heard = escape(turn.heard_text) or '<span class="dim">nothing was heard</span>'
    if not turn.interrupted:
        return heard
    rest = turn.text[len(turn.heard_text) :] if turn.text.startswith(turn.heard_text) else ""
    return f'{heard}<span class="cut" title="interrupted">{escape(rest)}</span>'


def _row(who: str, at_ms: float, words: str, wait: str) -> str:
    clock = f"{int(max(0.0, at_ms) // 60_000)}:{max(0.0, at_ms) % 60_000 / 1000:04.1f}"
    return (
        f'<tr class="{who}"><td class="clock">{clock}</td><td class="who">{who}</td><td>{words}</td>'
        f'<td class="clock">{wait}</td></tr>'
    )


def _class(ok: bool) -> str:
    return "ok" if ok else "bad"


def _slug(name: str) -> str:
    return re.sub(r"[^\w-]+", "-", name)

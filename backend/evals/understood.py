"""What the agent's recogniser made of the caller's words, where that is something else. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from backend.simulator.report import CallReport, Span


def understood(report: CallReport, said: Span) -> str | None:
    """The recognised words of a stretch of the caller's speech, "" for none; None: they are the script's,
    but for case and punctuation."""
    words = " ".join(
        turn.text
        for turn in report.caller_turns
        if turn.via == "speech" and turn.started_ms < said.end_ms and turn.ended_ms > said.start_ms
    )
    return None if _plain(words) == _plain(said.text) else words


def misheard(report: CallReport) -> Iterator[str]:
    """A line for each stretch of the caller's speech that was understood otherwise, in order."""
    for said in report.spans:
        if said.role == "caller" and (words := understood(report, said)) is not None:
            yield f"caller: {said.text} · understood: {words or 'nothing'}"


def _plain(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())

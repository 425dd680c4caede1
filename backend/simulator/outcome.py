"""What is left of a simulated call on disk: audio, picture, transcript and records, under one name."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from backend.errors import BackendError
from backend.simulator.call_run import Evidence
from backend.simulator.report import CallReport, Expected, build_report
from backend.simulator.show import transcript


def judge(evidence: Evidence, expected: Expected) -> CallReport:
    """The report on a call. Raises BackendError when the records are not what they should be."""
    try:
        return build_report(evidence.line, evidence.call, expected)
    except (KeyError, TypeError, ValueError) as error:
        raise BackendError(f"the call's records cannot be read: {type(error).__name__}: {error}") from error


def write_outcome(evidence: Evidence, report: CallReport, out_dir: Path, name: str, title: str) -> list[Path]:
    """`name`.wav, .png, .txt and .json in `out_dir`. Raises BackendError when they cannot be written."""
    # Matplotlib takes half a second to import, which those who only ask for help need not wait for.
    from backend.simulator.timeline import draw_timeline

    wav, png, text, records = (out_dir / f"{name}.{suffix}" for suffix in ("wav", "png", "txt", "json"))
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        wav.write_bytes(evidence.wav)
        text.write_text(transcript(report, title), encoding="utf-8")
        records.write_text(_records(evidence, report), encoding="utf-8")
        draw_timeline(report, evidence.wav, title, png)
    except OSError as error:
        raise BackendError(f"{error.filename or out_dir} cannot be written: {error.strerror}") from error
    return [wav, png, text, records]


def _records(evidence: Evidence, report: CallReport) -> str:
    verdicts = [asdict(verdict) for verdict in report.verdicts]
    document = {"verdicts": verdicts, "call": evidence.call, "line": evidence.line}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

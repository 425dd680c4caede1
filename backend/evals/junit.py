"""A run as JUnit XML, which every CI reads: a suite a testsuite, a case a testcase."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree as xml

from backend.evals.results import CaseResult, SuiteResult

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0 has no such


def junit(results: Sequence[SuiteResult]) -> str:
    """The document. A case that its suite's pass rate forgives is told as skipped, with what did not hold."""
    root = xml.Element("testsuites", name="voice-agent eval")
    for result in results:
        suite = xml.SubElement(
            root, "testsuite", name=_text(f"{result.suite.name} ({result.mode})"), file=_text(result.file)
        )
        for case in result.cases:
            _case(suite, result, case)
        if not result.complete:
            left_out = xml.SubElement(suite, "testcase", classname=_text(result.suite.name), name="complete")
            xml.SubElement(left_out, "error", message="interrupted: not every case was run")
        _count(suite)
    _count(root)
    return xml.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: xml.Element, result: SuiteResult, case: CaseResult) -> None:
    element = xml.SubElement(
        suite, "testcase", classname=_text(result.suite.name), name=_text(case.case.id),
        time=f"{case.took_s:.3f}",
    )  # fmt: skip
    lines = [
        f"call {attempt.number}: {line}" if len(case.attempts) > 1 else line
        for attempt in case.attempts
        for line in attempt.complaints
    ]
    if not case.passed:
        kind = "skipped" if result.passed else "error" if case.blameless else "failure"
        note = xml.SubElement(element, kind, message=_text(lines[0] if lines else "no call was held"))
        note.text = _text("\n".join(lines))
    elif lines:
        xml.SubElement(element, "system-out").text = _text("\n".join(lines))


def _count(element: xml.Element) -> None:
    cases = element.findall(".//testcase")
    element.set("tests", str(len(cases)))
    for kind, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        if element.tag == "testsuite" or kind != "skipped":  # Jenkins refuses it at the root
            element.set(name, str(len(element.findall(f".//{kind}"))))
    element.set("time", f"{sum(float(case.get('time', '0')) for case in cases):.3f}")


def _text(value: str) -> str:
    return _FORBIDDEN.sub("�", value)

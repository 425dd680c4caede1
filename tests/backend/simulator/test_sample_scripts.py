"""Shipped scripts are sound, and a name or a path finds what it should."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backend.simulator.sample_scripts import read_script, sample_names
from backend.simulator.script import ScriptError, parse_script


def test_the_shipped_scripts_are_sound() -> None:
    assert {"book-appointment", "wants-a-human", "reminder-confirm"} <= set(sample_names())
    for name in sample_names():
        assert parse_script(read_script(name)).steps


def test_a_file_is_read_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"steps": [{"say": "Hello."}]}), encoding="utf-8")
    assert read_script(str(path))["steps"] == [{"say": "Hello."}]


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ScriptError, match="did you mean book-appointment"):
        read_script("book-apointment")


def test_an_unknown_name_is_answered_with_all() -> None:
    with pytest.raises(ScriptError, match="shipped ones are .*wants-a-human"):
        read_script("zzz")


def test_a_missing_file_is_not_taken_for_a_name() -> None:
    with pytest.raises(ScriptError, match="there is no script"):
        read_script("somewhere/book-appointment.json")


def test_a_broken_file_names_file_field_and_reason(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"steps": [{"sya": "Hello."}]}), encoding="utf-8")
    with pytest.raises(ScriptError, match=r"mine\.json.*steps\[0\].*'sya'.*did you mean 'say'"):
        read_script(str(path))

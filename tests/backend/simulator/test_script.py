"""Scripts: what is taken, and the sentence for what is not."""

from __future__ import annotations

import json

import pytest

from backend.simulator.script import Interrupt, ScriptError, VoiceShape, load_script, parse_script


def test_every_step_is_understood():
    script = parse_script(
        {
            "voice": {"pitch": 0.9, "speed": 1},
            "steps": [
                {"wait_for": "how can I help", "timeout_ms": 15000},
                {"wait_for": ["yes", "no"]},
                {"wait_until_quiet": True, "timeout_ms": 9000},
                {"say": "hello", "noise_db": -20},
                {"press": "12#"},
                {"interrupt_after_ms": 1200, "say": "stop"},
                {"silent_ms": 3000},
                {"hang_up": True},
            ],
        }
    )
    assert script.voice == VoiceShape(pitch=0.9, speed=1.0)
    assert script.steps[5] == Interrupt(interrupt_after_ms=1200, say="stop")
    assert len(script.steps) == 8


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ([], 'script: expected a JSON object like {"steps": [{"say": "Hello."}]}'),
        ({"stepz": []}, "script: unknown field 'stepz'; did you mean 'steps'?"),
        ({"steps": {}}, "script.steps: expected a list of steps"),
        ({"steps": [{"say": "x"}] * 201}, "script.steps: 201 steps are too many; at most 200"),
        ({"steps": ["hi"]}, """script.steps[0]: expected an object like {"say": "Hello."}, got str"""),
        (
            {"steps": [{"wait_fro": "x"}]},
            "script.steps[0]: unknown field 'wait_fro'; did you mean 'wait_for'?",
        ),
        ({"steps": [{"say": ""}]}, "script.steps[0]: say: is empty; give the words to say"),
        ({"steps": [{"press": 12}]}, "script.steps[0]: press: keys are 0-9, *, # and A-D, given as text"),
        ({"steps": [{"wait_for": "?!"}]}, "script.steps[0]: wait_for: has no words to wait for"),
        ({"steps": [{"hang_up": False}]}, "script.steps[0]: hang_up: can only be true"),
        (
            {"steps": [{"say": "a"}, {"say": "x", "interupt_after_ms": 3}]},
            "script.steps[1]: unknown field 'interupt_after_ms'; known are say, beep, noise_db",
        ),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_step(document, sentence):
    with pytest.raises(ScriptError) as caught:
        parse_script(document)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    "step",
    [
        {},
        {"wait_for": 3},
        {"wait_for": []},
        {"interrupt_after_ms": 100},
        {"interrupt_after_ms": -1, "say": "x"},
        {"silent_ms": "long"},
        {"say": "x", "noise_db": 20},
        {"wait_for": "x", "timeout_ms": 0},
        {"say": "x", "hang_up": True},
    ],
)
def test_other_nonsense_is_refused(step):
    with pytest.raises(ScriptError, match=r"^script\.steps\[0\]: "):
        parse_script({"steps": [step]})


def test_a_file_is_named_in_its_errors(tmp_path):
    path = tmp_path / "caller.json"
    with pytest.raises(ScriptError, match="caller.json: cannot be read: No such file"):
        load_script(path)
    path.write_text("{")
    with pytest.raises(ScriptError, match="caller.json: is not JSON"):
        load_script(path)
    path.write_text(json.dumps({"steps": [{}]}))
    with pytest.raises(ScriptError, match=r"caller.json: script.steps\[0\]: empty"):
        load_script(path)
    path.write_text(json.dumps({"steps": [{"say": "hi"}]}))
    assert len(load_script(path).steps) == 1

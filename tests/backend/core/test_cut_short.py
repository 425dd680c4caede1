"""How little sound cannot be a whole text, against real voices in a hurry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
import soxr

from backend.core.cut_short import is_missing_words, verdict
from backend.core.said import ending, spoken_weight
from backend.core.sentences import pieces
from backend.core.speech import Piece, plain_piece

TEXT = plain_piece("Please bring your insurance card so that we can find your record.")  # 12 words
AGENTS = Path(__file__).parents[3] / "agents"
QUICK_WORDS = (
    "I am in it to do so as he is.",
    "We can do it for you if you like it as it is.",
    "It is up to you and me to go to it.",
    "Your code is A B C D E F G.",
)


@pytest.mark.parametrize(
    ("speech_ms", "known", "speed", "found"),
    [
        (300, None, 1.0, "cut"),
        (719, None, 1.0, "cut"),
        (721, None, 1.0, "whole"),
        (719, None, 1.2, "whole"),
        (719, None, 0.7, "cut"),
        (0.34 * 50, 50, 1.0, "cut"),
        (0.64 * 50, 50, 1.0, "doubtful"),
        (0.66 * 50, 50, 1.0, "whole"),
        (0.66 * 62, 200, 1.0, "whole"),
    ],
)
def test_by_the_clock(speech_ms: float, known: float | None, speed: float, found: str) -> None:
    if known is not None:  # given as of one character
        speech_ms *= spoken_weight(TEXT)
    assert verdict(TEXT, speech_ms, ms_per_character=known, speed=speed) == found


@pytest.mark.parametrize(
    "text",
    [
        "Yes.",
        "Uncharacteristically extraordinary straightforwardness.",  # three words
        "So we do it, do we?",  # few letters
        "Ваш врач примет вас завтра в половине десятого.",
        "请在十点以前带上您的保险卡到我们这里来。",
        "Guten Tag, мы говорим по-русски сегодня.",  # what is not Latin may be left out
        "",
    ],
)
def test_what_cannot_be_judged_is_believed(text: str) -> None:
    assert verdict(plain_piece(text), 30, ms_per_character=60) == "whole"


def test_accents_are_latin_letters() -> None:
    assert verdict(plain_piece("Möchten Sie für nächste Woche einen Termin vereinbaren?"), 300) == "cut"


def test_a_word_that_the_ear_did_not_catch_is_not_missing() -> None:
    said = len(TEXT.words)
    assert [is_missing_words(TEXT, count) for count in (None, said, said - 2, said - 3, 0)] == [
        False, False, False, True, True,
    ]  # fmt: skip


def _sentences() -> Iterator[Piece]:
    def texts(node: Any) -> Iterator[str]:
        match node:
            case str() if len(node.split()) > 3 and "{" not in node:
                yield node
            case dict():
                for value in node.values():
                    yield from texts(value)
            case list():
                for value in node:
                    yield from texts(value)

    for text in QUICK_WORDS:
        yield from pieces(text)
    for name in ("front-desk", "reminder"):
        for text in texts(json.loads((AGENTS / f"{name}.json").read_text(encoding="utf-8"))):
            yield from pieces(text)


@pytest.mark.parametrize(("speaker", "speed"), [("lark", 1.0), ("lark", 1.2), ("flint", 1.2), ("lark", 2.0)])
def test_the_quickest_real_voices_are_never_taken_for_broken_ones(speaker: str, speed: float) -> None:
    pytest.importorskip("hibari")
    from runpod_server.preview.speakers import SPEAKERS
    from runpod_server.preview.voice import PreviewVoice

    voice, who = PreviewVoice(), next(each for each in SPEAKERS if each.name == speaker)
    lasts: list[tuple[Piece, float]] = []
    for piece in {piece.spoken: piece for piece in _sentences()}.values():
        parts = [part.samples for part in voice.speak(piece.spoken, who, speed=speed, seed=1)]
        pcm = np.clip(soxr.resample(np.concatenate(parts), 24_000, 8_000), -1, 1) * 32_767
        lasts.append((piece, ending(pcm.astype("<i2").tobytes()).speech_ms()))
    usual = median(ms / spoken_weight(piece) for piece, ms in lasts)
    assert len(lasts) > 30
    print(speaker, speed, min(ms / len(piece.words) for piece, ms in lasts), usual)
    for piece, ms in lasts:
        assert verdict(piece, ms) == "whole", f"nothing is known of this voice: {ms:.0f} ms, {piece.spoken}"
        assert verdict(piece, ms, ms_per_character=1.5 * usual) != "cut", "learnt of one drawling sentence"
        assert verdict(piece, ms, ms_per_character=usual) == "whole", f"{ms:.0f} ms, {piece.spoken}"

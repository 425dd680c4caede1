"""Sentences: no word lost, none cut that should not be, quick on any text."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.sentences import MAX_CHARACTERS, sentences


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("One. Two! Three? Four… Five", ["One.", "Two!", "Three?", "Four…", "Five"]),
        ("Really?! Yes... No.", ["Really?!", "Yes...", "No."]),
        ("Well... perhaps. Good.", ["Well... perhaps.", "Good."]),
        ("First line\nSecond line\r\n\r\nThird.", ["First line", "Second line", "Third."]),
        ("  spaced \t out.   Next.\n", ["spaced out.", "Next."]),
        # Abbreviations and initials.
        ("Dr. Smith will see you. Mrs. Jones will not.", ["Dr. Smith will see you.", "Mrs. Jones will not."]),
        ("Bring fruit, e.g. apples. Or pears.", ["Bring fruit, e.g. apples.", "Or pears."]),
        ("12 Main St. Suite 4. Ring twice.", ["12 Main St. Suite 4.", "Ring twice."]),
        ("I met J. R. Smith. He waved.", ["I met J. R. Smith.", "He waved."]),
        ("You and I. Nobody else.", ["You and I.", "Nobody else."]),
        # "No." is an answer, but before a figure it is a number.
        ("No. I said so.", ["No.", "I said so."]),
        ("We are at No. 5 today. Come in.", ["We are at No. 5 today.", "Come in."]),
        # Times of day.
        ("We open at 9 a.m. on Monday. Come by.", ["We open at 9 a.m. on Monday.", "Come by."]),
        ("We close at 5 p.m. Please call again.", ["We close at 5 p.m.", "Please call again."]),
        ("Is it 9 a.m.? Yes.", ["Is it 9 a.m.?", "Yes."]),
        # Numbers, addresses of the net.
        ("It costs $3.50. Pi is 3.14159.", ["It costs $3.50.", "Pi is 3.14159."]),
        ("Call 1.800.555.0199 now. Bye.", ["Call 1.800.555.0199 now.", "Bye."]),
        ("1. Open it.\n2. Close it.", ["1. Open it.", "2. Close it."]),
        ("Write to a.b@mail.example.com today. Thanks.", ["Write to a.b@mail.example.com today.", "Thanks."]),
        (
            "See https://example.com/a.b?c=d.e!f now. Good.",
            ["See https://example.com/a.b?c=d.e!f now.", "Good."],
        ),
        ("Visit www.example.com. Then call.", ["Visit www.example.com.", "Then call."]),
        # Quotes and brackets close with their sentence.
        ('She said "Stop." Then she left.', ['She said "Stop."', "Then she left."]),
        ("(It rained.) We stayed.", ["(It rained.)", "We stayed."]),
        ("“Hello.” ‘Bye.’ End.", ["“Hello.”", "‘Bye.’", "End."]),
        # Nothing to say.
        ("", []),
        (" \n\t ", []),
        ("... !? — …", []),
        ("🎉🙂👍🏽", []),
        ("🎉 Hooray! 🎉", ["🎉 Hooray!"]),
        ("___ *** ---", []),
        # Other scripts.
        ("مرحبا بكم. كيف حالك؟ شكرا جزيلا.", ["مرحبا بكم.", "كيف حالك؟", "شكرا جزيلا."]),
        ("שלום. מה שלומך? תודה!", ["שלום.", "מה שלומך?", "תודה!"]),
        ("你好。你要什么？谢谢！", ["你好。", "你要什么？", "谢谢！"]),  # noqa: RUF001
        ("नमस्ते। आप कैसे हैं?", ["नमस्ते।", "आप कैसे हैं?"]),
    ],
)
def test_sentences(text: str, pieces: list[str]) -> None:
    assert sentences(text) == pieces


_SPOKEN = re.compile(r"[^\W_]+")


@given(st.text(max_size=400) | st.text(st.sampled_from("ab1 .!?…\"')\n,;:-_A🎉"), max_size=900))
def test_every_word_is_spoken_once_and_in_order(text: str) -> None:
    pieces = sentences(text)
    assert "".join(_SPOKEN.findall("".join(pieces))) == "".join(_SPOKEN.findall(text))
    for piece in pieces:
        assert piece == " ".join(piece.split()) and _SPOKEN.search(piece)
        assert len(piece) <= MAX_CHARACTERS


@given(st.lists(st.text("abcdefgABC", min_size=1, max_size=12), min_size=1, max_size=200))
def test_words_are_not_cut_while_they_fit(words: list[str]) -> None:
    assert " ".join(sentences(", ".join(words))).split() == ", ".join(words).split()


def test_a_long_sentence_is_cut_at_a_comma_before_a_space() -> None:
    clause = "and then we walked for a very long time without a word"  # 55 characters
    pieces = sentences(", ".join([clause] * 12) + ".")
    assert len(pieces) == 3 and all(len(piece) <= MAX_CHARACTERS for piece in pieces)
    assert all(piece.endswith((",", ".")) for piece in pieces)


def test_without_commas_it_is_cut_at_a_space() -> None:
    words = " ".join(f"word{n}" for n in range(200))
    pieces = sentences(words)
    assert " ".join(pieces) == words and all(len(piece) > MAX_CHARACTERS - 10 for piece in pieces[:-1])


def test_ten_thousand_characters() -> None:
    text = "This is a sentence of ordinary length, as people speak. " * 180
    pieces = sentences(text)
    assert len(text) > 10_000 and len(pieces) == 180
    assert " ".join(pieces) == text.strip()


def test_one_word_of_five_thousand_letters() -> None:
    word = "".join("abcdefghij"[n % 10] for n in range(5_000))
    pieces = sentences(f"Say {word} now.")
    assert "".join(pieces).replace(" ", "") == f"Say{word}now."
    assert max(map(len, pieces)) <= MAX_CHARACTERS


@pytest.mark.parametrize(
    "text",
    ["." * 100_000, ". " * 10_000, "Dr. " * 5_000, "a" + " " * 20_000 + "b", " \n" * 10_000, '."' * 10_000,
     "1. " * 7_000, "a, " * 7_000, "。" * 20_000, "?!" * 10_000 + "a", "J. " * 7_000],
)  # fmt: skip
def test_hostile_text_takes_no_time(text: str) -> None:
    began = time.process_time()
    sentences(text)
    # A quadratic pattern takes seconds here; this takes about 10 ms.
    assert time.process_time() - began < 0.5

"""Pieces of a text, whole or as it streams in: the same ones, early, none lost, none doubled."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.sentences import MAX_CHARACTERS, PieceStream, pieces
from backend.core.speech import Piece
from backend.core.spoken_text import is_speakable, words_of


def texts(text: str, language: str = "en-US") -> list[str]:
    return [piece.text for piece in pieces(text, language)]


def streamed(deltas: list[str], language: str = "en-US") -> list[Piece]:
    stream = PieceStream(language)
    return [piece for delta in deltas for piece in stream.push(delta)] + stream.finish()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four… Five", ["One.", "Two!", "Three?", "Four…", "Five"]),
        ("Really?! Yes... No.", ["Really?!", "Yes...", "No."]),
        ("Well... perhaps. Well… perhaps.", ["Well... perhaps.", "Well… perhaps."]),
        ("First line\nSecond line\r\n\r\nThird.", ["First line", "Second line", "Third."]),
        ("Dr. Smith will see you. Mrs. Jones will not.", ["Dr. Smith will see you.", "Mrs. Jones will not."]),
        ("Bring fruit, e.g. apples. Or pears.", ["Bring fruit, e.g. apples.", "Or pears."]),
        ("12 Main St. Suite 4. Ring twice.", ["12 Main St. Suite 4.", "Ring twice."]),
        ("I met J. R. Smith. He waved.", ["I met J. R. Smith.", "He waved."]),
        ("You and I. Nobody else.", ["You and I.", "Nobody else."]),
        ("No. I said so.", ["No.", "I said so."]),
        ("We are at No. 5 today. Come in.", ["We are at No. 5 today.", "Come in."]),
        ("Tea, fruit, etc. We have all.", ["Tea, fruit, etc.", "We have all."]),
        ("Acme Inc. Boston is near.", ["Acme Inc. Boston is near."]),
        ("Write to P.O. Box 5. He is J.R. Hall.", ["Write to P.O. Box 5.", "He is J.R. Hall."]),
        ("At 9 a.m. on Monday. Come.", ["At 9 a.m. on Monday.", "Come."]),
        ("At 9 a.m. Monday. At 5 p.m. We close.", ["At 9 a.m. Monday.", "At 5 p.m.", "We close."]),
        ("It costs $3.50. Pi is 3.14159.", ["It costs $3.50.", "Pi is 3.14159."]),
        ("Call 1.800.555.0199 now. Bye.", ["Call 1.800.555.0199 now.", "Bye."]),
        ("1. Open it.\n2. Close it.", ["1. Open it.", "2. Close it."]),
        ("Mail a.b@mail.example.com. Thanks.", ["Mail a.b@mail.example.com.", "Thanks."]),
        (
            "See https://example.com/a.b?c=d.e!f now. Good.",
            ["See https://example.com/a.b?c=d.e!f now.", "Good."],
        ),
        ("See [the. site](http://a.b/c. d) now. Good.", ["See [the. site](http://a.b/c. d) now.", "Good."]),
        ('She said "Stop." Then she left.', ['She said "Stop."', "Then she left."]),
        ("(It rained.) We stayed.", ["(It rained.)", "We stayed."]),
        ("**Stop.** Go *on.* Now.", ["**Stop.**", "Go *on.*", "Now."]),
        ("你好。你要什么？谢谢！", ["你好。", "你要什么？", "谢谢！"]),  # noqa: RUF001
        ("こんにちは。元気ですか。", ["こんにちは。", "元気ですか。"]),
        ("नमस्ते। आप कैसे हैं?", ["नमस्ते।", "आप कैसे हैं?"]),
        ("مرحبا بكم. كيف حالك؟ شكرا جزيلا.", ["مرحبا بكم.", "كيف حالك؟", "شكرا جزيلا."]),
        ("<p>One</p><p>Two</p>", ["One </p>", "Two </p>"]),
        ("🎉 Hooray! 🎉", ["🎉 Hooray!"]),
        ("", []),
        ("... !? — …", []),
        ("🎉🙂👍🏽", []),
    ],
)
def test_pieces(text: str, expected: list[str]) -> None:
    assert texts(text) == expected


def test_a_line_of_its_own_is_said_as_a_sentence() -> None:
    spoken = [piece.spoken for piece in pieces("# Our hours\n- Monday: 9-5\n| Tea | $3 |\nBye")]
    assert spoken == ["Our hours.", "Monday: nine to five.", "Tea , three dollars.", "Bye"]


LONG = (
    "Good morning, Anna, this is the practice of Dr. Smith calling about your visit on Nov 21, 2026, "
    "at 10:30 am. Is that still all right with you, or would you rather come on another day of the week?"
)


def test_a_long_first_sentence_begins_with_its_first_clause() -> None:
    assert texts(LONG) == [
        "Good morning,",
        "Anna, this is the practice of Dr. Smith calling about your visit on Nov 21, 2026, at 10:30 am.",
        "Is that still all right with you, or would you rather come on another day of the week?",
    ]
    assert texts("Good morning, Anna, how are you today?") == ["Good morning, Anna, how are you today?"]
    assert len(pieces(LONG, first_chars=1000)) == 2


def test_a_piece_comes_as_soon_as_it_is_certain() -> None:
    stream = PieceStream()
    assert stream.push("Yes, of course") == []
    assert stream.push("!") == []  # "?" or a quote may follow
    assert [piece.text for piece in stream.push(" ")] == ["Yes, of course!"]
    assert stream.push("It costs 3.") == []
    assert stream.push("50 dollars. ") == []  # the next word may be written small
    assert [piece.text for piece in stream.push("A")] == ["It costs 3.50 dollars."]
    assert stream.push(" line") == []
    assert [piece.text for piece in stream.push("\n")] == ["A line"]
    assert [piece.text for piece in stream.push("Is it 5 ") + stream.push("k") + stream.push("m?")] == []
    assert [piece.spoken for piece in stream.finish()] == ["Is it five kilometers?"]


def test_the_first_clause_does_not_wait_for_the_sentence() -> None:
    stream = PieceStream()
    out = stream.push("Thank you for calling, we will be glad to help you with whatever it may be")
    assert [piece.text for piece in out] == ["Thank you for calling,"]


BITS = st.sampled_from(
    (
        "1 12 48213 1,250 3.14 3. $5 €20 % 10:30 am p.m. a.m. 9-5 Nov 21, 2026. (555) +1 123-4567 km 1/2 "
        "a@b.co. www.a.com Dr. St. etc. e.g. No. Inc. FBI # * ** _ ` ~~ [ ] ( ](u) [a.](b) <b> </b> <br> <p> "
        "< > &amp; 🎉 👨‍👩‍👧 \u200b - — … ... . , ; : ! ?! \" ' ” 。 你好， नमस्ते। مرحبا؟ | a Hello We I J. "  # noqa: RUF001
        "don't"
    ).split()
    + [" ", " ", " ", " ", "\n", "\r\n", " \n ", "\xa0"]
)
TEXTS = st.one_of(
    st.lists(BITS, max_size=80).map("".join), st.lists(BITS, max_size=80).map(" ".join), st.text(max_size=200)
)


@given(TEXTS, st.data(), st.sampled_from(["en-US", "de", "ja"]))
def test_however_it_is_cut_up_the_pieces_are_the_same(text: str, data: st.DataObject, language: str) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=40).map(sorted))
    deltas = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole = pieces(text, language)
    assert streamed(deltas, language) == whole
    assert streamed(list(text), language) == whole


@given(TEXTS)
def test_every_word_stands_in_one_piece_in_order(text: str) -> None:
    in_pieces = [word.text for piece in pieces(text) for word in piece.words if is_speakable(word)]
    assert in_pieces == [word.text for word in words_of(text) if is_speakable(word)]
    for piece in pieces(text):
        assert any(map(is_speakable, piece.words))
        assert len(piece.spoken) <= MAX_CHARACTERS + 1 or len(piece.words) == 1


def test_ten_thousand_characters() -> None:
    text = "This is a sentence of ordinary length, as people speak. " * 180
    out = texts(text)
    assert len(text) > 10_000 and len(out) == 180
    assert " ".join(out) == text.strip()


def test_a_sentence_without_end_is_cut_at_commas_else_at_words() -> None:
    clause = "and then we walked for a very long time without a word"  # 54 characters
    out = texts(", ".join([clause] * 12) + ".")
    assert out[0] == clause + "," and all(len(piece) <= MAX_CHARACTERS for piece in out)
    assert all(piece.endswith((",", ".")) for piece in out)
    words = " ".join(f"word{'abcdefghij'[n % 10]}" for n in range(200))
    assert " ".join(texts(words)) == words and all(len(piece) > 290 for piece in texts(words)[:-1])


@pytest.mark.parametrize(
    "unit", ["a", "a ", "1 ", "<", "<a", "](", "[a](b", '"', "。", "\n", " ", ".", "etc. ", "a, ", "🎉"]
)
def test_hostile_text_letter_by_letter_takes_no_time(unit: str) -> None:
    text = (unit * 10_000)[:10_000]
    began = time.process_time()
    streamed(list(text))
    assert time.process_time() - began < 1.5

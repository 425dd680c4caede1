"""Words as a voice should say them: every kind of figure and sign, nothing lost, quick on any text."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.speech import Word
from backend.core.spoken.cleaning import clean
from backend.core.spoken_text import is_speakable, words_of


def said(text: str, language: str = "en-US") -> str:
    return " ".join(word.spoken for word in words_of(text, language) if word.spoken)


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        # Numbers.
        ("I have 3 cats and 21 dogs.", "I have three cats and twenty-one dogs."),
        ("1,250 of 1,000,000", "one thousand two hundred fifty of one million"),
        (
            "3.14, .5 and 1,250.50",
            "three point one four, point five and one thousand two hundred fifty point five zero",
        ),
        ("It is -5 or −7.", "It is minus five or minus seven."),
        ("the 3rd, 21st and 100th", "the third, twenty-first and one hundredth"),
        ("Pick #1 or #2.", "Pick number one or number two."),
        ("5+ years, ~20 people, >3", "five plus years, about twenty people, more than three"),
        (
            "1/2 cup, 3/4 inch, 2 1/2 spoons, 1½ more",
            "one half cup, three quarters inch, two and a half spoons, one and a half more",
        ),
        ("ratio 3:1, 16:9", "ratio three to one, sixteen to nine"),
        ("2+2=4, 3 × 4, 10²", "two plus two equals four, three times four, ten squared"),
        ("221B Baker St., a 4K screen", "two two one B Baker Street, a four K screen"),
        ("Call 911, a 50/50 chance, §5", "Call nine one one, a fifty fifty chance, section five"),
        ("4111 1111 1111", "four one one one, one one one one, one one one one"),
        ("blood pressure 120/80", "blood pressure one hundred twenty over eighty"),
        ("5 x 3, 10x20, 3*4", "five by three, ten by twenty, three times four"),
        # Ranges.
        ("9-5, 10–20 and 100-200", "nine to five, ten to twenty and one hundred to two hundred"),
        ("from 1990-1995", "from nineteen ninety to nineteen ninety-five"),
        ("5-10%, $5-$10, 3-5 km", "five to ten percent, five to ten dollars, three to five kilometers"),
        # Money.
        ("$1,250.50", "one thousand two hundred fifty dollars and fifty cents"),
        ("$1 and $0.99, $2.00", "one dollar and ninety-nine cents, two dollars"),
        ("€20, 30€, £1.50", "twenty euros, thirty euros, one pound and fifty pence"),
        (
            "£3m or $3.5 million or €2bn",
            "three million pounds or three point five million dollars or two billion euros",
        ),
        (
            "-$5, 20 USD, $9.99/month",
            "minus five dollars, twenty dollars, nine dollars and ninety-nine cents per month",
        ),
        ("¥500", "five hundred yen"),
        # Percent, units.
        ("12.5% of 50 %", "twelve point five percent of fifty percent"),
        ("5 km, 1 km, 16GB, 6 ft", "five kilometers, one kilometer, sixteen gigabytes, six feet"),
        ("20°C, 68 °F, -3°", "twenty degrees Celsius, sixty-eight degrees Fahrenheit, minus three degrees"),
        (
            "60 mph, 100 km/h, 500ms",
            "sixty miles per hour, one hundred kilometers per hour, five hundred milliseconds",
        ),
        ("10k users, 3x faster, 20 m²", "ten thousand users, three times faster, twenty square meters"),
        # Times and dates.
        ("10:30 am, 2:05 p.m. today", "ten thirty A M, two oh five P M today"),
        ("at 14:05 or 10:00", "at fourteen oh five or ten o'clock"),
        ("9am-5pm, 9:00-17:30", "nine A M to five P M, nine o'clock to seventeen thirty"),
        ("open 24/7", "open twenty-four seven"),
        ("2026-11-21", "November twenty-first, twenty twenty-six"),
        ("2026-11-21T10:30:00Z", "November twenty-first, twenty twenty-six, ten thirty"),
        ("11/21, 11/21/2026", "November twenty-first, November twenty-first, twenty twenty-six"),
        (
            "Nov 21, 2026, Dec. 3 and May 5th",
            "November twenty-first, twenty twenty-six, December third and May fifth",
        ),
        ("21 November 2026", "twenty-first of November, twenty twenty-six"),
        ("Nov 21-23, Sept 2026", "November twenty-first to twenty-third, September twenty twenty-six"),
        ("Mon-Fri, Tue and Wed", "Monday to Friday, Tuesday and Wednesday"),
        (
            "in 1985, 2005, 2026 and 1906",
            "in nineteen eighty-five, two thousand five, twenty twenty-six and nineteen oh six",
        ),
        ("the 1990s and the '80s", "the nineteen nineties and the eighties"),
        # Telephone numbers and codes.
        ("+1 (555) 123-4567", "plus one, five five five, one two three, four five six seven"),
        ("(555) 123-4567.", "five five five, one two three, four five six seven."),
        ("555-1234", "five five five, one two three four"),
        ("+15551234567", "plus one, five five five, one two three, four five six seven"),
        ("+44 20 7946 0958", "plus four four, two zero, seven nine four six, zero nine five eight"),
        ("1.800.555.0199", "one, eight zero zero, five five five, zero one nine nine"),
        ("555-123-4567 ext. 12", "five five five, one two three, four five six seven, extension one two"),
        ("order 48213", "order four eight two one three"),
        ("Your code is 4821.", "Your code is four eight two one."),
        ("code 123456", "code one two three, four five six"),
        ("007, 50000 people", "zero zero seven, fifty thousand people"),
        ("4111-1111-1111-1111", "four one one one, one one one one, one one one one, one one one one"),
        ("AB123, A4, B2B, COVID-19", "A B one two three, A four, B two B, COVID nineteen"),
        (
            "v2.1.3 and version 1.2.3",
            "version two point one point three and version one point two point three",
        ),
        ("192.168.1.10", "one nine two dot one six eight dot one dot one zero"),
        # Addresses.
        ("jane.doe@example.com,", "jane dot doe at example dot com,"),
        ("a_b-c+d@mail.example.org.", "a underscore b dash c plus d at mail dot example dot org."),
        ("https://www.example.com/help?x=1#y", "example dot com slash help"),
        ("Visit www.example.com.", "Visit example dot com."),
        ("example.co.uk", "example dot co dot U K"),
        # Abbreviations and initialisms.
        ("Dr. Smith, Mrs. Lee and Prof. Ng", "Doctor Smith, Missus Lee and Professor Ng"),
        ("12 Main St. Suite 4", "twelve Main Street Suite four"),
        ("in St. Louis", "in Saint Louis"),
        ("fruit, e.g. apples, i.e. food", "fruit, for example apples, that is food"),
        ("tea, etc. and more, etc.", "tea, et cetera and more, et cetera."),
        ("Acme Inc. and Bolt Ltd.", "Acme Incorporated and Bolt Limited."),
        ("No. 5 is ready. No. Never.", "number five is ready. No. Never."),
        ("FBI, PDFs, your PIN, NASA, OK", "F B I, P D F's, your PIN, NASA, okay"),
        ("the US and the U.S. too", "the U S and the U S too"),
        ("P.O. Box 5, J.R.", "P O Box five, J R."),
        ("CALL US NOW", "CALL US NOW"),
        ("World War II", "World War two"),
        # Signs.
        ("AT&T, R&D, salt & pepper", "A T and T, R and D, salt and pepper"),
        ("and/or, he/she, pickup/delivery", "and or, he or she, pickup slash delivery"),
        ("#sale @anna", "hashtag sale at anna"),
        ("Press # or *, dial *69.", "Press pound or star, dial star six nine."),
        ("C++, C#", "C plus plus, C sharp"),
        ("Well — perhaps - yes", "Well — perhaps - yes"),
        # Markdown.
        ("**Bold**, *it*, __b__, _i_, ~~gone~~, `code`", "Bold, it, b, i, gone, code"),
        ("This is **very important**, really.", "This is very important, really."),
        ("See [our site](https://example.com/a_(b)).", "See our site."),
        ("![A cat](cat.png) here", "A cat here"),
        ("Known fact.[12] Next", "Known fact. Next"),
        ("# Our hours\nNine", "Our hours Nine"),
        ("- one\n* two\n• three\n- [x] four", "one two three four"),
        ("1. Open\n2) Close", "one, Open two, Close"),
        ("> quoted", "quoted"),
        ("a\n---\nb", "a b"),
        ("| Tea | $3 |\n|---|:-:|\n| Milk | $1 |", "Tea , three dollars Milk , one dollar"),
        ("```python\nx\n```", "x"),
        ("snake_case", "snake case"),
        # Tags, entities.
        ('<speak>Hi <break time="1s"/> <b>th</b>ere</speak>', "Hi there"),
        ("One<br>two<p>three</p>", "One two three"),
        ("Fish &amp; chips&nbsp;now &#39;yes&#39;", "Fish and chips now 'yes'"),
        ("<https://example.com> <a@example.com>", "example dot com a at example dot com"),
        ("1 < 2 and a<b", "one two and a b"),
        # Emoji, hidden signs.
        ("Hello 🎉👍🏽 there 👨‍👩‍👧 🇺🇸 5️⃣ :-)", "Hello there five"),
        ("a\u200bb \ufeffc \x00d\ud800", "ab c d"),
        ("© 2026, Acme™", "copyright twenty twenty-six, Acme"),
        # Other scripts are left as they are.
        ("مرحبا بكم. كيف حالك؟", "مرحبا بكم. كيف حالك؟"),
        ("שלום עולם", "שלום עולם"),
        ("नमस्ते आप", "नमस्ते आप"),
        ("café naïve Zürich", "café naïve Zürich"),
    ],
)  # fmt: skip
def test_said_as_one_would_read_it(written: str, spoken: str) -> None:
    assert said(written) == spoken


@pytest.mark.parametrize(
    ("language", "written", "spoken"),
    [
        ("en-GB", "21/11, 3/4/2026", "November twenty-first, April third, twenty twenty-six"),
        (
            "de",
            "Ich habe 21 Katzen, 1.250 Hunde.",
            "Ich habe einundzwanzig Katzen, eintausendzweihundertfünfzig Hunde.",
        ),
        ("de-AT", "Es sind 3,5 Liter.", "Es sind drei Komma fünf Liter."),
        ("fr", "Il a 21 ans.", "Il a vingt-et-un ans."),
        ("es", "Tengo **3** gatos 🎉", "Tengo tres gatos"),
        # What one cannot be sure of is left to the voice.
        ("fr", "1 250,50 € ou 10:30", "1 250,50 € ou 10:30"),
        ("de", "Am 21.11. um 10 Uhr", "Am 21.11. um zehn Uhr"),
        ("xx", "5 zz", "5 zz"),
        ("de", "Nummer 48213", "Nummer vier acht zwei eins drei"),
    ],
)  # fmt: skip
def test_other_languages(language: str, written: str, spoken: str) -> None:
    assert said(written, language) == spoken


@pytest.mark.parametrize(
    "text", ["", " \n\t ", "... !? — …", "🎉🙂👍🏽", "___ *** ---", "\u200b\x00", "<br><b></b>", "()"]
)
def test_nothing_to_say_has_no_words(text: str) -> None:
    assert words_of(text) == []


def test_one_thing_is_one_word() -> None:
    words = words_of("Call +1 (555) 123-4567, pay $1,250, by Nov 21, 2026, at 10:30 am.")
    assert [word.text for word in words] == [
        "Call", "+1 (555) 123-4567,", "pay", "$1,250,", "by", "Nov 21, 2026,", "at", "10:30 am.",
    ]  # fmt: skip
    assert words[3] == Word("$1,250,", "one thousand two hundred fifty dollars,")


PROSE = (
    "Good morning, and thank you for calling the practice; how can I help you today? I'm sorry, "
    'it\'s rather loud here - could you say that again, please? "Of course," she said (and smiled). '
    "The well-known doctor won't be in on Tuesday… but Wednesday's fine! So: shall we say Wednesday?"
)


def test_plain_prose_is_said_as_it_stands() -> None:
    words = words_of(PROSE)
    assert [word.text for word in words] == PROSE.split()
    assert all(word.text == word.spoken for word in words)


def test_one_word_of_five_thousand_letters() -> None:
    letters = "".join("abcdefghij"[n % 10] for n in range(5_000))
    words = words_of(f"Say {letters} now.")
    assert "".join(word.text for word in words) == f"Say{letters}now."
    assert max(len(word.spoken) for word in words) <= 60


SNIPPETS = st.sampled_from(
    (
        "1 12 48213 1,250 3.14 -5 $ $5 €20 20€ £3m % 5% 10:30 am p.m. a.m. 9-5 Nov Nov. 21 21st 2026 "
        "2026-11-21 11/21 (555) +1 123-4567 555-1234 ext. x5 km 5km GB °C 1/2 v2.1 1.2.3 a@b.co www.a.com "
        "https://a.b/c?d Dr. St. etc. "
        "e.g. No. Inc. FBI US OK & / # #1 * ** _ __ ` ``` ~ ~~ [ ] ( ) ](u) [a](b) < > <b> </b> "
        "<br> <a &amp; &#39; 🎉 👍🏽 👨‍👩‍👧 \u200b \u200d \x00 - -- — … . , ; : ! ? ?! \" ' “ ” 。 ， 你好 "  # noqa: RUF001
        "नमस्ते مرحبا؟ ٣ ½ ² é | + = @ \\ { ^ a Hello We I don't COVID-19 AB1 II of million"
    ).split()
    + [" ", " ", " ", "\n", "\t", "\xa0"]
)
TEXTS = st.one_of(st.lists(SNIPPETS, max_size=60).map("".join), st.text(max_size=200))


@given(TEXTS, st.sampled_from(["en-US", "en-GB", "de", "zh", "xx"]))
def test_written_words_are_the_text_and_said_ones_are_sayable(text: str, language: str) -> None:
    words = words_of(text, language)
    if not words:
        return
    assert "".join("".join(word.text for word in words).split()) == "".join(clean(text).split())
    for word in words:
        assert word.text
        assert word.spoken == " ".join(word.spoken.split())
        assert len(word.spoken) <= 180
        assert not any(
            unicodedata.category(char) in ("So", "Cc", "Cs", "Cn", "Co")
            for char in word.spoken
            if char != "°"
        )
        word.spoken.encode()
    assert any(map(is_speakable, words))


@given(st.lists(st.from_regex(r"[a-z]{1,12}[,;]?", fullmatch=True), min_size=1, max_size=40))
def test_lower_case_words_are_left_alone(words: list[str]) -> None:
    text = " ".join(words)
    known = {"etc", "vs", "ok", "approx", "eg", "ie"}
    expected = [word for word in words if word.strip(",;") not in known]
    assert [word.spoken for word in words_of(text) if word.text.strip(",;") not in known] == expected


@pytest.mark.parametrize(
    "unit",
    ["a", "1", "1 ", "12345678 ", "1,234,567.89 ", "(", "+1 ", "1-", "1/", "1:", "Nov 2", "a@", "a.b@", "a.",
     "/", "<", "<a", "<a ", "](", "[a](b", "*", "**a", "_a", "`", "&", "&amp", "#", " ", "\n", ".", '"', "' ",
     "é1", "你", "。", "🎉 ", "\u200d", "a\u200d", "0-", "1x", "1.", "etc. ", "No. ", "A", "A1", "|", "| a ",
     "~", "1. ", "\\", "٣ ", "½ ", "a/", "a&", "x" * 70, "1 of ", "I'", "—", "2026-", "+1 2 3 4 5 6 7 "],
)  # fmt: skip
def test_a_hundred_thousand_hostile_characters(unit: str) -> None:
    text = (unit * (100_000 // len(unit) + 1))[:100_000]
    began = time.process_time()
    words_of(text)
    # A second on one slow core; a pattern that goes over the text more than once takes minutes.
    assert time.process_time() - began < 2.5


def test_prose_takes_about_a_microsecond_a_character() -> None:
    text = PROSE * (100_000 // len(PROSE))
    words_of(PROSE)
    began = time.process_time()
    words_of(text)
    assert time.process_time() - began < 0.5

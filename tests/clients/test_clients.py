"""Each format and option of the newest clients works, or is refused as the reference says."""

from __future__ import annotations

from typing import Any

import pytest

from backend.simulator.spoken import spoken_words
from backend.stt.local import LocalTranscriber
from tests.clients import sound
from tests.clients.conftest import HERE, Ask, Case, Server
from tests.clients.environments import node_environment, python_environment
from tests.words import errors_within

pytestmark = pytest.mark.timeout(900)  # environments are fetched in it

TEXT = "Would you like to book an appointment for Thursday morning?"
OPENAI_VOICES = "alloy ash ballad cedar coral echo fable marin nova onyx sage shimmer verse".split()
FORMATS = ["mp3", "opus", "aac", "flac", "wav", "pcm"]
MEDIA_TYPES = {
    "mp3": "audio/mpeg", "opus": "audio/ogg", "aac": "audio/aac", "flac": "audio/flac", "wav": "audio/wav",
    "pcm": "audio/pcm",
}  # fmt: skip
MODEL = "hibari-tts"
# The recogniser may mishear one word in eight, and likes to add "Thank you." to a polite sentence.
WORDS_PER_ERROR = 8
MADE_UP_WORDS = 2
# How much a pace may differ from what was asked.
PACE_TOLERANCE = 0.1
SPEEDS = [0.25, 0.5, 2.0, 4.0]

Answers = dict[str, Any]


async def assert_says(ears: LocalTranscriber, data: bytes, text: str = TEXT, form: str = "pcm") -> None:
    heard = await sound.words(ears, data, form)
    said_words, heard_words = len(spoken_words(text)), len(spoken_words(heard))
    assert errors_within(text, heard) <= said_words // WORDS_PER_ERROR, heard
    assert heard_words - said_words <= MADE_UP_WORDS, heard


def assert_pace(answers: Answers, speed: float, *, usual: str = "default") -> None:
    """Its sound at the speed is as long as it is to be, held against the `usual` one's."""
    usual_s = sound.duration_s(sound.of(answers[usual]))
    spoken_s = sound.duration_s(sound.of(answers[f"speed-{speed:g}"]))
    assert spoken_s == pytest.approx(usual_s / speed, rel=PACE_TOLERANCE)


# --- OpenAI's own clients, for Python and Node ---------------------------------------------------------


def speech(**options: Any) -> Case:
    asked = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": TEXT, "response_format": "pcm"}
    return {"do": "speech", "options": {**asked, **options}}


REFUSED: dict[str, tuple[Case, int, str]] = {
    "ogg": (speech(response_format="ogg"), 400, "response_format"),
    "slow": (speech(speed=0.2), 400, "speed"),
    "fast": (speech(speed=4.5), 400, "speed"),
    "nobody": (speech(voice="nobody"), 400, "voice"),
    "silence": (speech(input=""), 400, "input"),
    "endless": (speech(input="A word. " * 600), 400, "input"),
    "stranger": ({**speech(), "api_key": "wrong"}, 401, ""),
    "no-model": ({"do": "model", "id": "gpt-4o"}, 404, ""),
}
OPENAI_CASES: dict[str, Case] = {
    **{form: speech(response_format=form) for form in FORMATS},
    **{f"sse-{form}": speech(response_format=form, stream_format="sse") for form in FORMATS},
    **{f"voice-{voice}": speech(voice=voice, input="Goodbye.") for voice in OPENAI_VOICES},
    "default": {"do": "speech", "options": {"model": "tts-1", "voice": "alloy", "input": TEXT}},
    "whole": {**speech(response_format="mp3"), "do": "whole"},
    "instructions": speech(instructions="Speak like a pirate."),
    "named": speech(voice="rowan"),
    "by-id": speech(voice={"id": "rowan"}),
    "speaker": speech(voice="3"),
    **{f"speed-{speed:g}": speech(speed=speed) for speed in SPEEDS},
    "models": {"do": "models"},
    "model": {"do": "model", "id": MODEL},
    **{name: case for name, (case, _, _) in REFUSED.items()},
}


@pytest.fixture(scope="module", params=["python", "node"])
def openai(request: pytest.FixtureRequest, ask: Ask) -> Answers:
    if request.param == "node":
        folder = node_environment("openai-node", "openai")
        return ask(["node", str(HERE / "openai_node.mjs"), str(folder)], OPENAI_CASES)
    return ask(
        [str(python_environment("openai-python", "openai")), str(HERE / "openai_python.py")], OPENAI_CASES
    )


@pytest.mark.parametrize("form", FORMATS)
async def test_openai_formats(openai: Answers, ears: LocalTranscriber, form: str) -> None:
    data = sound.of(openai[form])
    assert openai[form]["content_type"].split(";")[0] == MEDIA_TYPES[form]
    await assert_says(ears, data, form=form)


@pytest.mark.parametrize("form", FORMATS)
async def test_openai_events(openai: Answers, ears: LocalTranscriber, form: str) -> None:
    data, usage = sound.from_events(sound.of(openai[f"sse-{form}"]))
    assert openai[f"sse-{form}"]["content_type"].split(";")[0] == "text/event-stream"
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0
    await assert_says(ears, data, form=form)


@pytest.mark.parametrize("case", ["default", "whole"])
async def test_openai_sends_mp3_by_default_and_in_one_piece(
    openai: Answers, ears: LocalTranscriber, case: str
) -> None:
    await assert_says(ears, sound.of(openai[case]), form="mp3")


@pytest.mark.parametrize("voice", OPENAI_VOICES)
async def test_openai_voices(openai: Answers, ears: LocalTranscriber, voice: str) -> None:
    await assert_says(ears, sound.of(openai[f"voice-{voice}"]), "Goodbye.")


@pytest.mark.parametrize("case", ["named", "by-id", "speaker", "instructions"])
async def test_openai_options(openai: Answers, ears: LocalTranscriber, case: str) -> None:
    await assert_says(ears, sound.of(openai[case]))


@pytest.mark.parametrize("speed", SPEEDS)
def test_openai_speed(openai: Answers, speed: float) -> None:
    assert_pace(openai, speed, usual="pcm")


@pytest.mark.parametrize("case", ["models", "model"])
def test_openai_models(openai: Answers, case: str) -> None:
    assert openai[case] == {"models": [MODEL]}


@pytest.mark.parametrize("case", REFUSED)
def test_openai_refusals(openai: Answers, case: str) -> None:
    _, status, param = REFUSED[case]
    refusal = openai[case]
    assert refusal["status"] == status, refusal
    assert (refusal["param"] or "") == param, refusal
    assert refusal["message"] and refusal["request_id"], refusal


# --- Pipecat -------------------------------------------------------------------------------------------

TOKENS = [
    "Good ",
    "morning. ",
    "Would ",
    "you ",
    "like ",
    "to ",
    "book ",
    "an ",
    "appointment ",
    "for ",
    "Thursday ",
    "morning?",
]
PIPECAT_CASES: dict[str, Case] = {
    **{
        voice: {"options": {"voice": voice}, "text": "Goodbye."}
        for voice in OPENAI_VOICES
        if voice not in ("cedar", "marin")
    },
    "default": {"options": {}, "text": TEXT},
    **{f"speed-{speed:g}": {"options": {"speed": speed}, "text": TEXT} for speed in SPEEDS},
    "instructions": {"options": {"instructions": "Speak like a pirate."}, "text": TEXT},
    "tokens": {"options": {}, "tokens": TOKENS},
    "slow": {"options": {"speed": 0.2}, "text": TEXT},
    "named": {"options": {"voice": "rowan"}, "text": TEXT},
}


@pytest.fixture(scope="module")
def pipecat(ask: Ask) -> Answers:
    python = python_environment("pipecat", "pipecat-ai[openai]")
    return ask([str(python), str(HERE / "pipecat_pipeline.py")], PIPECAT_CASES)


async def test_pipecat_speaks_a_text_and_what_a_model_writes(
    pipecat: Answers, ears: LocalTranscriber
) -> None:
    await assert_says(ears, sound.of(pipecat["default"]))
    await assert_says(ears, sound.of(pipecat["instructions"]))
    await assert_says(ears, sound.of(pipecat["tokens"]), "".join(TOKENS))


@pytest.mark.parametrize("speed", SPEEDS)
def test_pipecat_speed(pipecat: Answers, speed: float) -> None:
    assert_pace(pipecat, speed)


@pytest.mark.parametrize("voice", [voice for voice in OPENAI_VOICES if voice in PIPECAT_CASES])
async def test_pipecat_voices(pipecat: Answers, ears: LocalTranscriber, voice: str) -> None:
    await assert_says(ears, sound.of(pipecat[voice]), "Goodbye.")


def test_pipecat_passes_a_refusal_on(pipecat: Answers) -> None:
    assert "speed" in pipecat["slow"]["message"] and "0.25" in pipecat["slow"]["message"]


def test_pipecat_itself_refuses_voices_that_are_not_openais(pipecat: Answers) -> None:
    """Should it stop, the reference has to say so."""
    assert "is not supported" in pipecat["named"]["message"]


# --- LiveKit Agents ------------------------------------------------------------------------------------


def livekit_case(**options: Any) -> Case:
    return {"options": options, "text": TEXT}


LIVEKIT_CASES: dict[str, Case] = {
    **{f"events-{form}": livekit_case(response_format=form) for form in FORMATS},
    **{f"audio-{form}": livekit_case(response_format=form, model="tts-1") for form in FORMATS},
    "default": {**livekit_case(), "prewarm": True},
    "named": livekit_case(voice="rowan"),
    "instructions": livekit_case(instructions="Speak like a pirate."),
    **{f"speed-{speed:g}": livekit_case(speed=speed) for speed in SPEEDS},
    "ogg": livekit_case(response_format="ogg"),
    "slow": livekit_case(speed=0.2),
    "nobody": livekit_case(voice="nobody"),
}


@pytest.fixture(scope="module")
def livekit(ask: Ask) -> Answers:
    python = python_environment("livekit", "livekit-plugins-openai")
    return ask([str(python), str(HERE / "livekit_agents.py")], LIVEKIT_CASES)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("stream", ["events", "audio"])
async def test_livekit_formats(livekit: Answers, ears: LocalTranscriber, stream: str, form: str) -> None:
    await assert_says(ears, sound.of(livekit[f"{stream}-{form}"]))


@pytest.mark.parametrize("case", ["default", "named", "instructions"])
async def test_livekit_options(livekit: Answers, ears: LocalTranscriber, case: str) -> None:
    await assert_says(ears, sound.of(livekit[case]))


@pytest.mark.parametrize("speed", SPEEDS)
def test_livekit_speed(livekit: Answers, speed: float) -> None:
    assert_pace(livekit, speed)


@pytest.mark.parametrize(
    ("case", "field"), [("ogg", "response_format"), ("slow", "speed"), ("nobody", "voice")]
)
def test_livekit_refusals(livekit: Answers, case: str, field: str) -> None:
    assert livekit[case]["status"] == 400, livekit[case]
    assert field in livekit[case]["message"]


# --- wyoming-openai ------------------------------------------------------------------------------------

BRIDGED = ["--tts-models", MODEL, "--tts-voices", "rowan", "nobody"]
STREAMING = ["--tts-streaming-models", MODEL, "--tts-voices", "rowan"]
PIECES = ["Good morning. Would you ", "like to book an appointment ", "for Thursday morning?"]
WYOMING_CASES: dict[str, Case] = {
    "default": {"options": BRIDGED, "voice": "rowan", "text": TEXT},
    "streaming": {"options": STREAMING, "voice": "rowan", "pieces": PIECES},
    **{
        f"speed-{speed:g}": {
            "options": [*BRIDGED, "--tts-speed", f"{speed:g}"],
            "voice": "rowan",
            "text": TEXT,
        }
        for speed in SPEEDS
    },
    "instructions": {"options": [*BRIDGED, "--tts-instructions", "Slowly."], "voice": "rowan", "text": TEXT},
    "found": {"options": ["--tts-models", MODEL]},
    "slow": {"options": [*BRIDGED, "--tts-speed", "0.2"], "voice": "rowan", "text": TEXT},
    "nobody": {"options": BRIDGED, "voice": "nobody", "text": TEXT},
}


def wyoming_command() -> list[str]:
    python = python_environment("wyoming", "wyoming-openai", at_least=(3, 12))
    return [str(python), str(HERE / "wyoming_bridge.py")]


@pytest.fixture(scope="module")
def wyoming(ask: Ask) -> Answers:
    return ask(wyoming_command(), WYOMING_CASES)


@pytest.mark.parametrize("case", ["default", "instructions"])
async def test_wyoming_speaks(wyoming: Answers, ears: LocalTranscriber, case: str) -> None:
    await assert_says(ears, sound.of(wyoming[case]))


async def test_wyoming_speaks_sentence_by_sentence(wyoming: Answers, ears: LocalTranscriber) -> None:
    await assert_says(ears, sound.of(wyoming["streaming"]), "".join(PIECES))


@pytest.mark.parametrize("speed", SPEEDS)
def test_wyoming_speed(wyoming: Answers, speed: float) -> None:
    assert_pace(wyoming, speed)


def test_wyoming_offers_openais_voices_where_none_are_named(wyoming: Answers) -> None:
    assert set(wyoming["found"]["voices"]) >= {"alloy", "nova"}


def test_wyoming_lists_this_servers_voices_where_no_key_is_set(keyless: Server, ask: Ask) -> None:
    """It asks for them without the key."""
    options = ["--tts-models", MODEL, "--tts-backend", "KOKORO_FASTAPI"]
    answers = ask(wyoming_command(), {"listed": {"options": options}}, keyless)
    assert set(answers["listed"]["voices"]) >= {"juniper", "rowan"}


@pytest.mark.parametrize("case", ["slow", "nobody"])
def test_wyoming_refusals_are_errors_and_no_silence(wyoming: Answers, case: str) -> None:
    assert wyoming[case]["message"] == "Text-to-speech synthesis failed"

"""The account of a talk: turns numbered as they begin, what caused them, what a language model is told."""

from __future__ import annotations

import pytest

from backend.calls.speaking.speaker import Utterance
from backend.calls.talking.account import Account, AgentTurn
from backend.calls.talking.recorder import TurnRecorder
from backend.core.history import History
from backend.core.records import TurnRecord
from backend.core.turns import TurnEnded
from tests.backend.calls.fakes import MemoryStore

ENDED = TurnEnded("Shall we?", 1_000.0, 1_900.0, 2_000.0, 300.0)


class Book:
    def __init__(self) -> None:
        self.now_ms = 2_300.0
        self.turns: list[TurnRecord] = []
        self.history = History()
        recorder = TurnRecorder(MemoryStore(), "call")
        recorder.add = self.turns.append  # type: ignore[method-assign]
        self.account = Account(recorder, self.history, lambda: self.now_ms, node_id=lambda: "ask")


@pytest.fixture
def book() -> Book:
    return Book()


def said(text: str) -> Utterance:
    return Utterance(1, text, "sesame_ws", 2_310.0, heard_text=text, ended_ms=3_000.0)


def test_an_answer_has_the_times_of_what_it_answers_once(book: Book) -> None:
    book.account.caller(ENDED)
    book.account.answers(ENDED)
    book.now_ms = 2_305.0
    book.account.agent(book.account.agent_turn(), said("We shall."), "yes")
    book.account.agent(book.account.agent_turn(), said("Goodbye."), "bye")
    assert [(turn.index, turn.role, turn.node_id) for turn in book.turns] == [
        (0, "caller", "ask"),
        (1, "agent", "yes"),
        (2, "agent", "bye"),
    ]
    answer = book.turns[1].timings
    assert (answer.caller_speech_ended_ms, answer.turn_ended_ms, answer.text_ready_ms) == (
        1_900.0,
        2_300.0,
        2_305.0,
    )
    assert book.turns[2].timings.turn_ended_ms is None


def test_a_turn_is_numbered_when_it_begins_to_speak_and_not_recorded_before(book: Book) -> None:
    waiting = book.account.agent_turn(begun=False)
    book.account.caller(ENDED)
    book.account.agent(waiting, said(""), "ask")
    assert [turn.index for turn in book.turns] == [0]
    book.account.begins(waiting)
    book.account.agent(waiting, said("We shall."), "ask")
    assert [turn.index for turn in book.turns] == [0, 1]


def test_what_the_model_is_told(book: Book) -> None:
    book.account.caller(ENDED)
    book.account.caller(TurnEnded("", 0.0, 0.0, 0.0, 0.0))
    cut = said("We")
    cut.interrupted = True
    book.account.agent(AgentTurn(index=9), cut, None)
    book.account.keys("42", "ask")
    assert [message.text for message in book.history.messages()] == [
        "Shall we?",
        "We —",
        "(pressed the keys 42)",
    ]
    assert book.turns[-1].via == "dtmf"

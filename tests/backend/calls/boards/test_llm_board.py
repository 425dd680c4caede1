"""What is remembered of language models: when one is left alone, when it is tried, what an operator reads."""

from __future__ import annotations

import logging

import pytest

from backend.calls.boards.llm_board import LlmBoard
from backend.core.llm_health import LlmKey
from backend.errors import LlmError, LlmFailure

KEY = LlmKey("gpt", "http://user:pass@models.example/v1", "OPENAI_API_KEY")
OTHER_KEY = LlmKey("gpt", KEY.server, "ROUTER_KEY")
OTHER_MODEL = LlmKey("small", KEY.server, KEY.key)


class Counted:
    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.first_words: list[float] = []

    def llm_request(self, model: str, outcome: str) -> None:
        self.requests.append((model, outcome))

    def llm_first_word(self, model: str, seconds: float) -> None:
        self.first_words.append(seconds)


class Board(LlmBoard):
    """One whose time a test makes."""

    def __init__(self) -> None:
        self.now_ms = 1_000.0
        self.counted = Counted()
        super().__init__(lambda: self.now_ms, self.counted)

    def fails(self, reason: LlmFailure, key: LlmKey = KEY, after_ms: float = 4_000.0) -> None:
        self.began(key)
        error = LlmError(f"language model {key.model}: so it said", reason=reason)
        self.failed(key, error, after_ms=after_ms)

    def answers(self, key: LlmKey = KEY, first_word_ms: float = 300.0) -> None:
        self.began(key)
        self.answered(key, first_word_ms=first_word_ms)


@pytest.fixture
def board() -> Board:
    return Board()


def test_one_that_hangs_twice_is_left_alone_by_everybody_and_then_tried_by_one(board: Board) -> None:
    board.fails("timeout")
    assert board.allows(KEY), "once is nothing yet"
    board.now_ms += 20_000
    board.fails("timeout")
    assert not board.allows(KEY)
    assert board.allows(OTHER_MODEL) and board.allows(OTHER_KEY)
    board.now_ms += 5_000
    assert board.allows(KEY)
    board.began(KEY)
    assert not board.allows(KEY), "another turn tries it just now"
    board.answered(KEY, first_word_ms=200)
    assert board.allows(KEY)
    assert board.health([KEY])[0].breaker == "closed"


def test_it_is_left_alone_ever_longer_and_for_a_minute_at_most(board: Board) -> None:
    board.fails("timeout")
    waits_s = []
    for _ in range(7):
        board.fails("timeout")
        began_ms = board.now_ms
        while not board.allows(KEY):
            board.now_ms += 1_000
        waits_s.append(round((board.now_ms - began_ms) / 1000))
    assert waits_s == [5, 10, 20, 40, 60, 60, 60]


def test_two_hung_replies_far_apart_or_among_answers_are_no_reason(board: Board) -> None:
    board.fails("timeout")
    board.now_ms += 61_000
    board.fails("timeout")
    assert board.allows(KEY)
    for _ in range(4):
        board.answers()
    board.fails("timeout")
    assert board.allows(KEY)


@pytest.mark.parametrize("reason", ["unauthorized", "quota", "not_found", "rate_limited"])
def test_a_refusal_that_stands_counts_at_once(board: Board, reason: LlmFailure) -> None:
    board.fails(reason)
    assert not board.allows(KEY)
    assert board.allows(OTHER_KEY), "another key may be good"


def test_too_many_requests_pass_sooner_than_a_bad_key(board: Board) -> None:
    board.fails("rate_limited")
    board.fails("unauthorized", OTHER_KEY)
    board.now_ms += 1_500
    assert board.allows(KEY) and not board.allows(OTHER_KEY)
    board.now_ms += 13_500
    assert board.allows(OTHER_KEY)


def test_what_we_cancelled_and_what_we_asked_wrongly_tell_nothing(board: Board) -> None:
    for _ in range(10):
        board.began(KEY)
        board.gave_up(KEY)
        board.fails("bad_request")
    assert board.allows(KEY)
    assert board.counted.requests[:2] == [("gpt", "cancelled"), ("gpt", "bad_request")]


def test_an_impatient_agent_takes_the_model_from_nobody(board: Board) -> None:
    board.answers(first_word_ms=600)
    for _ in range(5):
        board.fails("timeout", after_ms=300)
    assert board.allows(KEY)
    assert board.counted.requests[-1] == ("gpt", "timeout")
    for _ in range(3):
        board.fails("timeout", after_ms=1_500)
    assert not board.allows(KEY), "that would have been patience enough"
    board.now_ms += 5_000
    board.fails("timeout", after_ms=300)
    assert board.allows(KEY), "its trial tells nothing either"


def test_a_trial_that_was_cancelled_lets_another_try(board: Board) -> None:
    board.fails("quota")
    board.now_ms += 15_000
    board.began(KEY)
    assert not board.allows(KEY)
    board.gave_up(KEY)
    assert board.allows(KEY)


def test_an_operator_is_told_what_to_do_without_secrets(board: Board) -> None:
    board.fails("unauthorized")
    (row,) = board.health([KEY, KEY])
    assert (row.model, row.key, row.state, row.breaker) == ("gpt", "OPENAI_API_KEY", "down", "open")
    assert row.detail.startswith("OPENAI_API_KEY is refused: set the right key (language model gpt: so it")
    assert row.detail.endswith("It is tried again in 15 s.")
    board.now_ms += 15_000
    assert "The next turn tries it." in board.health([KEY])[0].detail
    board.answers(first_word_ms=250)
    (row,) = board.health([KEY])
    assert (row.state, row.detail, row.breaker, row.first_word_ms) == ("up", "works", "closed", 250.0)
    assert board.counted.first_words == [0.25]
    assert board.health([OTHER_MODEL])[0].detail == "not asked yet"
    without = LlmKey("gpt", KEY.server)
    board.fails("unauthorized", without)
    assert board.health([without])[0].detail.startswith("Wants a key: set OPENAI_API_KEY, or llm.api_key in")


def test_one_that_refuses_every_request_is_down_though_it_is_asked(board: Board) -> None:
    board.fails("bad_request")
    (row,) = board.health([KEY])
    assert (row.state, row.breaker) == ("down", "closed")
    assert row.detail.startswith("Refuses what it is asked: correct the agent's `llm` (")
    board.answers()
    board.fails("bad_request")
    assert board.health([KEY])[0].state == "up", "one caller's odd request is no trouble of the model's"
    assert "refused its last request" in board.health([KEY])[0].detail


def test_every_change_is_logged_once(board: Board, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(4):
        board.fails("timeout")
    board.now_ms += 5_000
    board.fails("timeout")
    board.now_ms += 10_000
    board.answers()
    board.answers()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert told[0].startswith(
        "language model gpt at http://models.example/v1 is left alone for now: Does not"
    )
    assert told[1] == "language model gpt at http://models.example/v1 works again"
    assert "pass" not in caplog.text

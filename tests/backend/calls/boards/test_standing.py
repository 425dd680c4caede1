from __future__ import annotations

from collections import OrderedDict

from backend.calls.boards.standing import NOT_ASKED, Standing, advice, blend, keep, rounded, standing
from backend.core.breaker import Breaker


def told(breaker: Breaker, now_ms: float, *, works: bool = True) -> Standing:
    return standing(
        breaker, now_ms, works=works, note="works", advice="The key is refused (401).", tried_by="call"
    )


def test_a_route_is_told_by_its_breaker() -> None:
    breaker = Breaker()
    assert told(breaker, 0, works=False) == NOT_ASKED
    assert told(breaker, 0) == Standing("up", "works")
    breaker.failed("unauthorized", 0)
    down = told(breaker, 0)
    assert (down.state, down.breaker) == ("down", "open")
    assert down.detail.startswith("The key is refused (401). It is tried again in ")
    later = told(breaker, breaker.retry_in_ms(0) + 1)
    assert later == Standing("unknown", "The key is refused (401). The next call tries it.", "half_open")


def test_advice_names_what_the_route_said() -> None:
    assert advice({"busy": "Full"}, "busy", "429") == "Full (429)."
    assert advice({}, None, "odd") == "Fails (odd)."


def test_averages_follow() -> None:
    assert blend(None, 10) == 10
    assert 10 < blend(10, 20) < 15
    assert (rounded(None), rounded(1.26)) == (None, 1.3)


def test_the_one_longest_untouched_goes() -> None:
    table: OrderedDict[str, int] = OrderedDict()
    for name in ("a", "b", "a", "c"):
        keep(table, name, 1, most=2)
    assert list(table) == ["a", "c"]

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runpod_server.api.audio_store import AudioStore


def test_kept_for_its_time() -> None:
    store = AudioStore(keep_s=10)
    store.put("a", b"wav", now_s=100)
    assert store.get("a", now_s=109.9) == b"wav"
    assert store.get("a", now_s=110) is None
    assert store.get("b", now_s=100) is None


def test_the_oldest_goes_when_the_space_is_full() -> None:
    store = AudioStore(max_bytes=10)
    for name in "abc":
        store.put(name, b"1234", now_s=0)
    assert [store.get(name, 0) is None for name in "abc"] == [True, False, False]
    store.put("large", b"x" * 50, now_s=0)
    assert store.get("large", 0) is not None
    assert store.get("c", 0) is None


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 30)), max_size=30))
def test_never_more_than_the_space_unless_one_alone(puts: list[tuple[int, int]]) -> None:
    store, now_s = AudioStore(keep_s=20, max_bytes=25), 0
    for number, (size, passed_s) in enumerate(puts):
        now_s += passed_s
        store.put(str(number), b"x" * size, now_s)
        kept = [wav for name in range(number + 1) if (wav := store.get(str(name), now_s)) is not None]
        assert len(kept) == 1 or sum(map(len, kept)) <= 25

from __future__ import annotations

import errno
import hashlib
import logging
import multiprocessing
import os
import shutil
import stat
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.g711 import Codec
from backend.errors import StorageError
from backend.storage import prompts as prompts_module
from backend.storage.prompt_file import Prompt, pack, unpack
from backend.storage.prompts import PromptStore

MB = 1 << 20


def key(name: str | int) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


def prompt(name: str | int = "Hello.", size: int = 1000) -> Prompt:
    return Prompt(hashlib.sha256(str(name).encode()).digest() * (size // 32), str(name), "sesame", "preview")


def path_of(dir: Path, name: str | int) -> Path:
    return dir / key(name)[:2] / f"{key(name)}.wav"


def age(dir: Path, name: str | int, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path_of(dir, name), (then, then))


# --- the file ------------------------------------------------------------------------------------------


@given(st.binary(max_size=400), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_file_gives_back_what_was_packed(ulaw: bytes, text: str) -> None:
    packed = Prompt(ulaw, text, "a voice", "csm 1.0")
    assert unpack(pack(packed)) == packed


def test_a_file_is_a_wav_that_others_can_read(tmp_path: Path) -> None:
    file = tmp_path / "prompt.wav"
    file.write_bytes(pack(prompt(size=320)))
    soundfile = pytest.importorskip("soundfile")
    samples, rate_hz = soundfile.read(file, dtype="int16")
    assert rate_hz == 8000
    assert samples.tobytes() == Codec.PCMU.decode(prompt(size=320).ulaw)


def test_every_damage_is_found() -> None:
    whole = pack(prompt(size=64))
    for length in range(len(whole)):
        with pytest.raises(ValueError):
            unpack(whole[:length])
    for at in range(len(whole)):
        with pytest.raises(ValueError):
            unpack(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])


# --- the store -----------------------------------------------------------------------------------------


def test_what_was_put_is_there_and_survives_a_restart(tmp_path: Path) -> None:
    store = PromptStore(tmp_path / "new" / "folder", max_bytes=MB)
    assert store.get(key("a")) is None
    store.put(key("a"), prompt("a"))
    assert store.get(key("a")) == prompt("a").ulaw

    again = PromptStore(tmp_path / "new" / "folder", max_bytes=MB)
    assert again.get(key("a")) is None, "memory alone answers"
    assert again.prefetch([key("a"), key("b")]) == {key("a")}
    assert again.get(key("a")) == prompt("a").ulaw
    assert again.prompt(key("a")) == prompt("a")
    assert dict(again.prompts()) == {key("a"): prompt("a")}
    again.drop(key("a"))
    assert again.get(key("a")) is None and list(again.prompts()) == []


def test_get_touches_no_file(tmp_path: Path) -> None:
    store = PromptStore(tmp_path / "prompts", max_bytes=MB)
    store.put(key("a"), prompt("a"))
    shutil.rmtree(tmp_path / "prompts")
    assert store.get(key("a")) == prompt("a").ulaw


def test_names_are_sharded_and_only_a_key_is_a_name(tmp_path: Path) -> None:
    store = PromptStore(tmp_path, max_bytes=MB)
    store.put(key("a"), prompt("a"))
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*.wav")] == [
        Path(key("a")[:2]) / f"{key('a')}.wav"
    ]
    assert stat.S_IMODE(path_of(tmp_path, "a").stat().st_mode) == 0o644
    for name in ("../../etc/passwd", "", "A" * 64, "a" * 63, f"{key('a')}\n"):
        with pytest.raises(ValueError, match="no key"):
            store.put(name, prompt())


def test_the_folder_is_bounded_and_what_was_used_longest_ago_goes(tmp_path: Path) -> None:
    store = PromptStore(tmp_path, max_bytes=13_000)
    for number in range(10):
        store.put(key(number), prompt(number))
        age(tmp_path, number, 100 - number)
    assert store.prefetch([key(0)]) == {key(0)}  # used just now
    store.put(key(10), prompt(10))
    store.put(key(11), prompt(11))
    left = {int(found.text) for _, found in store.prompts()}
    assert {0, 11} <= left and 1 not in left and 2 not in left
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.wav")) <= 13_000
    assert len(left) >= 8, "it does not throw away more than it must"


def test_a_smaller_bound_holds_from_the_start(tmp_path: Path) -> None:
    store = PromptStore(tmp_path, max_bytes=MB)
    for number in range(10):
        store.put(key(number), prompt(number))
    PromptStore(tmp_path, max_bytes=5000)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.wav")) <= 5000


def test_one_prompt_larger_than_the_bound_pushes_nothing_out(tmp_path: Path) -> None:
    store = PromptStore(tmp_path, max_bytes=5000)
    store.put(key("a"), prompt("a"))
    store.put(key("big"), prompt("big", 64_000))
    assert {found.text for _, found in store.prompts()} == {"a"}
    assert store.get(key("big")) is not None
    assert store.prefetch([key("big")]) == {key("big")}


def test_memory_is_bounded_too(tmp_path: Path) -> None:
    store = PromptStore(tmp_path, max_bytes=MB, memory_bytes=3000)
    for number in range(3):
        store.put(key(number), prompt(number, 992))
    assert store.get(key(0)) is not None  # used: the next to go is 1
    store.put(key(3), prompt(3, 992))
    held = [number for number in range(4) if store.get(key(number)) is not None]
    assert held == [0, 2, 3]
    assert store.prefetch([key(1)]) == {key(1)} and store.get(key(1)) is not None


def test_without_a_folder_or_room_prompts_stay_in_memory(tmp_path: Path) -> None:
    for store in (PromptStore(None, max_bytes=MB), PromptStore(tmp_path, max_bytes=0)):
        store.put(key("a"), prompt("a"))
        assert store.get(key("a")) == prompt("a").ulaw
        assert store.prefetch([key("a"), key("b")]) == {key("a")}
        assert list(store.prompts()) == [] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign"])
def test_a_damaged_file_is_dropped_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    PromptStore(tmp_path, max_bytes=MB).put(key("a"), prompt("a"))
    path = path_of(tmp_path, "a")
    whole = path.read_bytes()
    flipped = whole[:700] + bytes([whole[700] ^ 0x40]) + whole[701:]
    path.write_bytes({"cut": whole[:-100], "flipped": flipped, "empty": b"", "foreign": b"text"}[damage])
    store = PromptStore(tmp_path, max_bytes=MB)
    assert store.prefetch([key("a")]) == set() and store.get(key("a")) is None
    assert not path.exists()
    assert "is dropped and made anew" in caplog.text and str(path) in caplog.text


def test_a_prompt_whose_file_was_removed_is_forgotten_at_the_next_prefetch(tmp_path: Path) -> None:
    store, operator = (PromptStore(tmp_path, max_bytes=MB) for _ in range(2))
    store.put(key("a"), prompt("a"))
    operator.drop(key("a"))
    assert store.prefetch([key("a")]) == set()
    assert store.get(key("a")) is None


def test_a_full_disk_is_told_once_and_fails_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PromptStore(tmp_path, max_bytes=MB)
    real = os.fdopen

    def full(handle: int, *args: object, **kwargs: object) -> object:
        os.close(handle)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(prompts_module.os, "fdopen", full)
    with caplog.at_level(logging.WARNING):
        for name in "abc":
            store.put(key(name), prompt(name))
    assert len(caplog.records) == 1
    assert "No space left on device" in caplog.text and "PROMPTS_DIR" in caplog.text
    assert store.get(key("c")) == prompt("c").ulaw and store.prefetch([key("c")]) == {key("c")}
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [], "nothing half written is left"

    monkeypatch.setattr(prompts_module.os, "fdopen", real)
    store.put(key("c"), prompt("c"))
    assert {found.text for _, found in store.prompts()} == {"c"}


def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match=r"cannot be kept in .*file.*set PROMPTS_DIR"):
        PromptStore(tmp_path / "file" / "prompts", max_bytes=MB)
    store = PromptStore.open(tmp_path / "file", max_bytes=MB)
    assert "made anew at every start" in caplog.text
    store.put(key("a"), prompt("a"))
    assert store.get(key("a")) == prompt("a").ulaw


def test_what_a_killed_process_left_half_written_goes_and_what_is_being_written_stays(tmp_path: Path) -> None:
    PromptStore(tmp_path, max_bytes=MB).put(key("a"), prompt("a"))
    stale, fresh = (path_of(tmp_path, "a").parent / f"{name}.unfinished" for name in ("stale", "fresh"))
    stale.write_bytes(b"RIFF")
    fresh.write_bytes(b"RIFF")
    os.utime(stale, (1, 1))
    PromptStore(tmp_path, max_bytes=MB)
    assert not stale.exists() and fresh.exists()


def _write_many(dir: Path, seed: int) -> None:
    store = PromptStore(dir, max_bytes=60_000)
    for number in range(120):
        name = (number * 7 + seed) % 90
        store.put(key(name), prompt(name))
        found = store.get(key(name))
        assert found is None or found == prompt(name).ulaw
        store.prefetch([key((name * 3) % 90)])


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=_write_many, args=(tmp_path, seed)) for seed in (1, 2)]
    for other in others:
        other.start()
    for other in others:
        other.join(30)
    assert [other.exitcode for other in others] == [0, 0]
    store = PromptStore(tmp_path, max_bytes=60_000)
    kept = dict(store.prompts())
    assert len(kept) > 20
    assert all(found == prompt(found.text) and name == key(found.text) for name, found in kept.items())
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.wav")) <= 60_000
    assert list(tmp_path.rglob("*.unfinished")) == []


def test_threads_share_a_store(tmp_path: Path) -> None:
    store = PromptStore(tmp_path, max_bytes=30_000, memory_bytes=8_000)
    wrong: list[int] = []

    def work(seed: int) -> None:
        for number in range(60):
            name = (number * 5 + seed) % 40
            store.put(key(name), prompt(name))
            store.prefetch([key((name + 1) % 40)])
            found = store.get(key(name))
            if found is not None and found != prompt(name).ulaw:
                wrong.append(name)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
    held = sum(len(found.ulaw) for number in range(40) if (found := store.prompt(key(number))))
    assert held <= 8_000

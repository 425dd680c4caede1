from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from runpod_server.app import choose_engine, listen, serve
from runpod_server.errors import EngineUnavailable, PortUnavailable
from runpod_server.settings import Settings


def test_auto_is_preview_and_says_so(settings: Callable[..., Settings]) -> None:
    engine = choose_engine(settings(engine=""))
    assert engine.name == "preview"
    assert engine.notice and "PREVIEW VOICE" in engine.notice and "ENGINE is empty" in engine.notice


@pytest.mark.parametrize("name", ["csm", "csm-chunked"])
def test_csm_is_chosen_by_name_and_loads_nothing_yet(name: str, settings: Callable[..., Settings]) -> None:
    pytest.importorskip("torch")
    engine = choose_engine(settings(engine=name, max_streams=7))
    assert (engine.name, engine.model, engine.status().state) == (name, "sesame/csm-1b", "loading")
    assert engine.status().capacity == (7 if name == "csm" else 1)


def test_weights_in_8_bits_are_for_the_batched_engine(settings: Callable[..., Settings]) -> None:
    pytest.importorskip("torch")
    assert choose_engine(settings(engine="csm", csm_weights="int8")).name == "csm"
    with pytest.raises(EngineUnavailable, match="CSM_WEIGHTS=int8 is for ENGINE=csm"):
        choose_engine(settings(engine="csm-chunked", csm_weights="int8"))


@pytest.mark.parametrize("name", ["csm", "csm-chunked"])
def test_csm_without_torch_says_what_to_install(
    name: str, settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runpod_server.app.find_spec", lambda _: None)
    with pytest.raises(EngineUnavailable, match=f"ENGINE={name}.*pip install.*csm"):
        choose_engine(settings(engine=name))


def test_a_taken_port_is_named() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortUnavailable, match=f"port {port} .* in use.*--port"):
            listen("127.0.0.1", port)


def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(PortUnavailable, match="check HOST and PORT"):
        listen("192.0.2.1", 0)


async def test_an_engine_that_cannot_load_ends_the_server(settings: Callable[..., Settings]) -> None:
    chosen = settings()

    class Unloadable(type(choose_engine(chosen))):  # type: ignore[misc]
        async def load(self) -> None:
            raise EngineUnavailable("no voice in this package")

    engine = Unloadable(max_streams=1, max_queue=1)
    with pytest.raises(EngineUnavailable, match="no voice in this package"):
        await serve(chosen, engine, listen("127.0.0.1", 0), asyncio.Event())

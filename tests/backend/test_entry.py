"""`voice-agent` interrupted before it is loaded."""

from __future__ import annotations

import sys

import pytest

from backend.entry import main


class Interrupted:
    """A module during whose loading somebody presses Ctrl-C."""

    def __getattr__(self, name: str) -> None:
        raise KeyboardInterrupt


def test_ctrl_c_while_loading_is_an_exit_status_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "backend.cli", Interrupted())
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 130

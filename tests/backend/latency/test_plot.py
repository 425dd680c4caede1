"""The picture is drawn, whatever was measured."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from backend.latency.figures import Failed, Measured
from backend.latency.plot import draw_latency
from tests.backend.latency.made import measured, subject

BLUE, ORANGE, RED = (0x25, 0x63, 0xA8), (0xD9, 0x77, 0x2B), (0xC6, 0x2F, 0x2F)


def drawn(folder: Path, *found: Measured) -> np.ndarray:
    draw_latency(found, "Title", folder / "p.png")
    pixels: np.ndarray = matplotlib.image.imread(folder / "p.png")
    return (pixels[..., :3] * 255).round().astype(int)


def shows(pixels: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((np.abs(pixels - np.array(color)).max(axis=2) <= 2).any())


def test_every_route_has_a_row_in_its_vendors_color(tmp_path: Path) -> None:
    one = drawn(tmp_path, measured((1, 15, 30), (2, 16, 40), own_ms=14))
    assert shows(one, BLUE) and not shows(one, ORANGE)
    both = drawn(tmp_path, measured((1, 15, 30)), measured((9, 75, 400), label="elevenlabs"))
    assert shows(both, BLUE) and shows(both, ORANGE) and not shows(both, RED)
    assert both.shape[0] > one.shape[0]


def test_a_route_that_only_failed_says_so(tmp_path: Path) -> None:
    silent = Measured(subject("sesame_rest"), failed=[Failed("busy", "full")])
    assert shows(drawn(tmp_path, silent), RED)
    assert shows(drawn(tmp_path, silent, measured((0.0, 0.0, 0.1))), RED)


def test_routes_far_apart_are_still_told_apart(tmp_path: Path) -> None:
    """On a straight scale the fast one would be a line at nought."""
    pixels = drawn(tmp_path, measured((2, 15, 30)), measured((900, 4000, 9000), label="elevenlabs"))
    blue = np.abs(pixels - np.array(BLUE)).max(axis=2) <= 2
    middle = blue[:, pixels.shape[1] * 2 // 5 : pixels.shape[1] * 7 // 10]
    columns = np.flatnonzero(middle.any(axis=0))
    assert columns.min() > 40, "away from the edge of its panel"


def test_a_folder_that_is_none_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        draw_latency([measured((1, 2, 3))], "Title", tmp_path / "none" / "p.png")

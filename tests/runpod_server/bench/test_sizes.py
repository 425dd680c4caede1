"""Models to measure by: made small enough, or refused."""

from __future__ import annotations

import pytest

from runpod_server.bench.sizes import check_memory
from runpod_server.errors import BenchError

GIB = 2**30


def test_what_would_fill_the_memory_is_refused_beforehand() -> None:
    with pytest.raises(BenchError, match="some 12 GiB of memory and 9 are free: take --size middle"):
        check_memory(12 * GIB, 9 * GIB)
    check_memory(12 * GIB, 13 * GIB)
    check_memory(12 * GIB, None)

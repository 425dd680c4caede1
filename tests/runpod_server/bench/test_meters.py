"""What a machine tells, and an nvidia-smi that tells it as the real one would."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from runpod_server.bench import meters

DEADLINE_S = 10.0


def smi(folder: Path) -> str:
    """A program that tells once and goes on."""
    path = folder / "nvidia-smi"
    path.write_text("#!/bin/sh\necho '412.50, 2048'\nexec sleep 60\n")
    path.chmod(0o755)
    return str(path)


def test_watts_and_memory_in_a_time() -> None:
    readings = meters.GpuReadings()
    for at_ms, line in ((100, "300.00, 1000"), (200, "500.00, 3000"), (300, "[N/A], 2000"), (400, "?")):
        readings.take(line, at_ms)
    assert readings.mean_watts(0, 1000) == 400
    assert readings.mean_watts(150, 1000) == 500
    assert readings.mean_watts(250, 1000) is None
    assert readings.most_mib() == 3000


async def test_reads_while_the_measurement_runs_and_ends_with_it(tmp_path: Path) -> None:
    async with asyncio.timeout(DEADLINE_S), meters.reading_gpu("GPU-1", smi(tmp_path)) as readings:
        assert readings.most_mib() == 2048
    assert readings.mean_watts(0, 1000 * time.monotonic()) == 412.5


async def test_no_gpu_and_no_program_read_nothing(tmp_path: Path) -> None:
    for uuid, command in ((None, "nvidia-smi"), ("GPU-1", str(tmp_path / "none"))):
        async with meters.reading_gpu(uuid, command) as readings:
            assert readings.mean_watts(0, 1e12) is None
            assert readings.most_mib() is None


def test_a_linux_tells_of_itself() -> None:
    assert (meters.resident_bytes() or 0) > 2**20
    assert (meters.available_bytes() or 0) > 2**20
    assert meters.load_average() is not None
    assert meters.cores() >= 1

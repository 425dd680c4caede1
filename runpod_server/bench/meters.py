"""What the machine tells of itself: memory, load, and by nvidia-smi the GPU's power and memory."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_PERIOD_MS = 200
_PAGE_BYTES = 4096
_READY_S = 10.0


@dataclass(slots=True)
class GpuReadings:
    """What nvidia-smi told, with when, in milliseconds of the monotonic clock."""

    watts: list[tuple[float, float]] = field(default_factory=list)
    used_mib: list[tuple[float, float]] = field(default_factory=list)

    def take(self, line: str, now_ms: float) -> None:
        """One line: watts and MiB; either may be "[N/A]"."""
        for text, into in zip(line.split(","), (self.watts, self.used_mib), strict=False):
            with suppress(ValueError):
                into.append((now_ms, float(text)))

    def mean_watts(self, start_ms: float, end_ms: float) -> float | None:
        """In that time; None: it told nothing then."""
        within = [watts for at_ms, watts in self.watts if start_ms <= at_ms < end_ms]
        return sum(within) / len(within) if within else None

    def most_mib(self) -> float | None:
        """The most memory in use on the GPU, by whomever."""
        return max((mib for _, mib in self.used_mib), default=None)


@asynccontextmanager
async def reading_gpu(gpu_uuid: str | None, command: str = "nvidia-smi") -> AsyncIterator[GpuReadings]:
    """Readings while the body runs; None, or no nvidia-smi: there are none."""
    readings = GpuReadings()
    if gpu_uuid is None:
        yield readings
        return
    try:
        process = await asyncio.create_subprocess_exec(
            command, f"--id={gpu_uuid}", "--query-gpu=power.draw,memory.used",
            "--format=csv,noheader,nounits", f"--loop-ms={_PERIOD_MS}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    except OSError:
        yield readings
        return
    first = asyncio.Event()
    taking = asyncio.create_task(_take(process, readings, first))
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(_READY_S):
                await first.wait()
        yield readings
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await asyncio.gather(taking, process.wait(), return_exceptions=True)


async def _take(process: asyncio.subprocess.Process, readings: GpuReadings, first: asyncio.Event) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        readings.take(line.decode(errors="replace"), 1000 * time.monotonic())
        first.set()
    first.set()  # it ended: there is nothing to wait for


def resident_bytes() -> int | None:
    """Memory this process holds now; None where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return None


def available_bytes() -> int | None:
    """Memory that can still be had; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, IndexError, ValueError):
        return None


def load_average() -> float | None:
    """How many programs wanted a processor in the last minute."""
    try:
        return float(Path("/proc/loadavg").read_text().split()[0])
    except (OSError, IndexError, ValueError):
        return None


def processor_name() -> str:
    """As the system calls it; "" where it does not."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return ""


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

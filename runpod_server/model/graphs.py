"""Running a frame, or a part of one: eagerly, or as a CUDA graph captured once for each shape of it.

It must work on static buffers alone and leave them untouched where no row advances, since a capture
runs it. Knows nothing of what it is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch

log = logging.getLogger(__name__)

_WARM_RUNS = 2  # cuBLAS and allocator settle before a capture

FrameShape = tuple[int, ...]  # rows first


class FrameGraphs:
    """Replays the graph of a shape where one was captured, else runs the frame itself (the slow twin)."""

    def __init__(self, frame: Callable[..., None], *, enabled: bool) -> None:
        self._frame, self.enabled = frame, enabled
        self._graphs: dict[FrameShape, torch.cuda.CUDAGraph] = {}

    def run(self, shape: FrameShape) -> None:
        """One frame of this shape."""
        graph = self._graphs.get(shape)
        if graph is None:
            self._frame(*shape)
        else:
            graph.replay()

    def capture(self, shapes: Iterable[FrameShape]) -> None:
        """Capture every shape, the largest first, so that the smaller ones reuse its memory. No-op when off.

        Raises torch.OutOfMemoryError.
        """
        if not self.enabled:
            return
        started_s = time.monotonic()
        pool = torch.cuda.graph_pool_handle()
        side = torch.cuda.Stream()  # one for all: cuBLAS keeps a workspace, of up to 32 MB, for each
        for shape in sorted(set(shapes) - self._graphs.keys(), reverse=True):
            self._graphs[shape] = self._captured(shape, pool, side)
        torch.cuda.synchronize()
        log.info("%d CUDA graphs captured in %.1f s", len(self._graphs), time.monotonic() - started_s)

    def _captured(self, shape: FrameShape, pool: Any, side: torch.cuda.Stream) -> torch.cuda.CUDAGraph:
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_RUNS):
                self._frame(*shape)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # thread_local: what other threads ask of CUDA meanwhile does not spoil the capture.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            self._frame(*shape)
        return graph

"""The least a frame can take: bytes that must be read from memory, over the memory's measured speed. Pure.

Counts the weights once for every pass over them and each stream's keys and values once. Says nothing of
arithmetic: of many streams on a slow processor, that may well be the lower roof.
"""

from __future__ import annotations

from dataclasses import dataclass

from runpod_server.model.config import CsmShapes, StackShapes


@dataclass(frozen=True, slots=True)
class FrameBytes:
    """What one frame of all streams reads: the weights, whatever their number, and what each stream adds."""

    backbone: int  # with the head of codebook 0
    depth: int  # all 31 passes, each with its head
    codec: int
    per_position: int  # keys and values of one position of one stream

    @property
    def weights(self) -> int:
        """Read once a frame, shared by all streams."""
        return self.backbone + self.depth + self.codec

    def of(self, positions: float) -> float:
        """With so many positions held by all streams together."""
        return self.weights + positions * self.per_position


def frame_bytes(shapes: CsmShapes, *, value_bytes: int, layer_bytes: int, codec_bytes: int) -> FrameBytes:
    """Bytes a frame reads, with so many a value, a weight of the layers, and the codec's whole decoder."""
    backbone, depth, passes = shapes.backbone, shapes.depth, shapes.codebooks - 1
    head = shapes.sound_codes * backbone.hidden
    # The depth decoder's input is looked up, already projected; only the backbone's state is projected.
    heads = passes * shapes.sound_codes * depth.hidden + backbone.hidden * depth.hidden
    return FrameBytes(
        backbone=backbone.layers * _layer(backbone) * layer_bytes + head * value_bytes,
        depth=passes * depth.layers * _layer(depth) * layer_bytes + heads * value_bytes,
        codec=codec_bytes,
        per_position=shapes.kv_bytes_per_position(value_bytes),
    )


def least_ms(bytes_read: float, bytes_per_s: float) -> float:
    """How long reading takes at that speed."""
    return 1000 * bytes_read / bytes_per_s


def _layer(stack: StackShapes) -> int:
    """Weights of one transformer layer."""
    attention = stack.hidden * stack.head_dim * 2 * (stack.heads + stack.kv_heads)
    return attention + 3 * stack.hidden * stack.mlp

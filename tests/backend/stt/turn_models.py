"""Tiny turn models, in the shape of the real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from backend.stt.smart_turn import IN_HZ


def noise(seconds: float, seed: int = 0, level: float = 3_000.0) -> bytes:
    """Noise, int16 at 8 kHz."""
    return np.random.default_rng(seed).normal(0, level, int(seconds * IN_HZ)).astype("<i2").tobytes()


def tiny_model(
    path: Path, *, bias: float = 0.0, input_name: str = "input_features", squash: bool = True
) -> Path:
    """A model that answers by the mean of its features: loud, flat sound is "done"."""
    nodes = [
        helper.make_node("ReduceMean", [input_name], ["mean"], keepdims=0),
        helper.make_node("Constant", [], ["bias"], value_float=bias),
        helper.make_node("Add", ["mean", "bias"], ["logit"]),
        helper.make_node("Sigmoid" if squash else "Identity", ["logit"], ["probability"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, [1, 80, 800])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, [])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path

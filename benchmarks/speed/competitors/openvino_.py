"""Run the exported official model in OpenVINO, for the lowest latency of one request."""

from __future__ import annotations

import numpy as np
import openvino

from benchmarks.speed.task import (
    DECODER_FILE,
    ENCODER_FILE,
    Contender,
    Outputs,
    Task,
    cores,
    official_outputs,
)

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


def load(task: Task) -> Contender:
    """Compile the encoder, and the decoder for one and for many points, with static shapes."""
    core, inputs = openvino.Core(), task.inputs
    hint = PRECISIONS[task.dtype]
    settings = {
        "INFERENCE_PRECISION_HINT": hint,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": cores(),
    }
    coords = inputs.network_points[:, None]
    labels = np.ones(coords.shape[:2], np.int32)

    def head(count: int) -> openvino.CompiledModel:
        model = core.read_model(task.folder / DECODER_FILE)
        model.reshape({"coords": [count, 1, 2], "labels": [count, 1]})
        return core.compile_model(model, "CPU", settings)

    network = core.compile_model(core.read_model(task.folder / ENCODER_FILE), "CPU", settings)
    heads = {count: head(count) for count in (1, len(coords))}
    embedding: list[np.ndarray] = []

    def encoder() -> None:
        embedding[:] = [network([inputs.pixels])[0].copy()]

    def decode(count: int) -> tuple[np.ndarray, ...]:
        found = heads[count](
            {"embedding": embedding[0], "coords": coords[:count], "labels": labels[:count]}
        )
        return tuple(found[name] for name in ("masks", "scores", "low_res"))

    def outputs() -> Outputs:
        masks, scores, low_res = decode(len(coords))
        return official_outputs(embedding[0], low_res, scores, masks)

    return Contender(
        f"precision hint {hint}",
        {
            "encoder": encoder,
            "click": lambda: decode(1),
            "points": lambda: decode(len(coords)),
        },
        outputs,
    )

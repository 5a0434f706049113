"""Run the exported official model in ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime

from benchmarks.speed.task import (
    DECODER_FILE,
    ENCODER_FILE,
    Contender,
    Outputs,
    Task,
    cores,
    official_outputs,
)


def load(task: Task) -> Contender:
    """Open encoder and decoder in two sessions with all graph optimisations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    providers = ["CUDAExecutionProvider"] if task.on_gpu else ["CPUExecutionProvider"]
    network, head = (
        onnxruntime.InferenceSession(task.folder / name, options, providers=providers)
        for name in (ENCODER_FILE, DECODER_FILE)
    )
    inputs = task.inputs
    coords = inputs.network_points[:, None]
    labels = np.ones(coords.shape[:2], np.int32)
    embedding: list[np.ndarray] = []

    def encoder() -> None:
        embedding[:] = network.run(None, {"pixels": inputs.pixels})

    def decode(count: int) -> list[Any]:
        given = {"embedding": embedding[0], "coords": coords[:count], "labels": labels[:count]}
        return head.run(["masks", "scores", "low_res"], given)

    def outputs() -> Outputs:
        masks, scores, low_res = decode(len(coords))
        return official_outputs(embedding[0], low_res, scores, masks)

    return Contender(
        "float32 kernels",
        {
            "encoder": encoder,
            "click": lambda: decode(1),
            "points": lambda: decode(len(coords)),
        },
        outputs,
    )

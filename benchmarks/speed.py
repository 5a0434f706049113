"""Speed of samjax beside the official PyTorch code, in one run on one machine and image.

    python -m benchmarks.speed                         # the embedded checkpoint
    python -m benchmarks.speed --model vit_b-random    # ViT-B sizes, random weights
    python -m benchmarks.speed --model vit_b           # the official weights

All competitors do the same job through their predictors: encode a photograph, one click, many
points. They take turns in every round, so that a machine that slows down slows all; the table
shows medians, and ratios of what was measured round by round. Where torch or segment-anything is
not installed, the official code is reported as missing.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date

import jax
import jax.numpy as jnp
import matplotlib.cbook
import numpy as np
from tqdm import tqdm

import samjax
from benchmarks.flops import encoder_flops
from samjax.checkpoint.loading import to_official

POINTS = 64


@dataclass
class Competitor:
    """One implementation: its jobs by name, and the seconds of each round."""

    name: str
    dtype: str
    jobs: dict[str, Callable[[], object]]
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def median(self, job: str) -> float:
        return float(np.median(self.seconds[job]))


def random_points(size: tuple[int, int], count: int) -> np.ndarray:
    """``count`` points (x, y) inside an image of ``size`` (H, W), as float32, seeded."""
    rng = np.random.default_rng(0)
    return (rng.uniform(0.05, 0.95, (count, 2)) * size[::-1]).astype(np.float32)


def samjax_jobs(sam: samjax.Segmenter, image: np.ndarray) -> dict[str, Callable[[], object]]:
    """Encode, click and many points through samjax.SamPredictor."""
    predictor = samjax.SamPredictor(sam)
    points = random_points(image.shape[:2], POINTS)
    labels = np.ones(POINTS, np.int32)

    def encode() -> None:
        predictor.set_image(image)
        predictor.get_image_embedding()  # waits for the device

    return {
        "encode": encode,
        "click": lambda: predictor.predict(points[:1], labels[:1]),
        "points": lambda: predictor.predict_many(points[:, None], labels[:, None]),
    }


def official_jobs(sam: samjax.Segmenter, image: np.ndarray) -> dict[str, Callable[[], object]]:
    """The same through the official SamPredictor, on the same weights, in float32."""
    import torch

    from convert.official import OfficialPredictor, load_official

    model = load_official(sam.config, to_official(sam.parameters(), sam.config))
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    predictor = OfficialPredictor(model)
    points = random_points(image.shape[:2], POINTS)
    labels = np.ones(POINTS, np.int32)

    def many() -> object:
        coords = predictor.transform.apply_coords(points[:, None], image.shape[:2])
        batch = torch.as_tensor(coords, dtype=torch.float, device=predictor.device)
        marks = torch.as_tensor(labels[:, None], device=predictor.device)
        return predictor.predict_torch(batch, marks)[0].cpu().numpy()

    def encode() -> None:
        predictor.set_image(image)
        predictor.get_image_embedding().cpu()

    return {
        "encode": encode,
        "click": lambda: predictor.predict(points[:1], labels[:1]),
        "points": many,
    }


def matrix_peak(dtype: jnp.dtype, size: tuple[int, int, int] = (4096, 768, 3072)) -> Callable:
    """One large product in ``dtype``: the machine's own measure of what can be reached."""
    m, k, n = size
    rng = np.random.default_rng(0)
    a = jnp.asarray(rng.standard_normal((m, k), np.float32), dtype)
    b = jnp.asarray(rng.standard_normal((k, n), np.float32), dtype)
    product = jax.jit(
        lambda a, b: jnp.matmul(a, b, preferred_element_type=jnp.float32, precision="highest")
    )
    return lambda: product(a, b).block_until_ready()


def missing_official() -> str | None:
    """Why the official code cannot take part, or None."""
    absent = [n for n in ("torch", "segment_anything") if importlib.util.find_spec(n) is None]
    return f"{' and '.join(absent)} not installed" if absent else None


def measure(competitors: list[Competitor], rounds: int) -> None:
    """Warm up, then let all competitors do every job in turn, ``rounds`` times."""
    total = (rounds + 1) * sum(len(c.jobs) for c in competitors)
    with tqdm(total=total, unit="job", disable=not sys.stderr.isatty()) as bar:
        for turn in range(rounds + 1):  # the first compiles and warms caches
            for competitor in competitors:
                for name, job in competitor.jobs.items():
                    bar.set_description(f"{competitor.name} {name}")
                    start = time.perf_counter()
                    job()
                    if turn:
                        elapsed = time.perf_counter() - start
                        competitor.seconds.setdefault(name, []).append(elapsed)
                    bar.update()


def table(competitors: list[Competitor], peaks: dict[str, float], flops: float) -> str:
    """A Markdown table: medians, speed over the first competitor, fraction of the peak."""
    first = competitors[0]
    lines = [
        (
            "| | dtype | encode, ms | ratio | of GEMM peak | click, ms | ratio "
            f"| {POINTS} points, ms | ratio |"
        ),
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for c in competitors:
        ratios = {
            job: float(np.median(np.array(first.seconds[job]) / np.array(c.seconds[job])))
            for job in c.jobs
        }
        fraction = flops / c.median("encode") / peaks[c.dtype]
        lines.append(
            f"| {c.name} | {c.dtype} | {c.median('encode') * 1e3:.0f} | {ratios['encode']:.2f}x "
            f"| {fraction:.2f} | {c.median('click') * 1e3:.1f} | {ratios['click']:.2f}x "
            f"| {c.median('points') * 1e3:.0f} | {ratios['points']:.2f}x |"
        )
    return "\n".join(lines)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description=__doc__.split("\n\n")[0],
    )
    parser.add_argument(
        "--model", default="embedded", help="embedded, vit_b, vit_b-random, ..., or a checkpoint"
    )
    parser.add_argument("--image", help="a photograph (default: matplotlib's grace_hopper.jpg)")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", help="of samjax: cpu, gpu, tpu")
    return parser.parse_args(arguments)


def source(model: str) -> str | samjax.SamConfig | None:
    """What samjax.load takes for ``--model``."""
    if model.endswith("-random"):
        name = model.removesuffix("-random")
        if name not in ("vit_b", "vit_l", "vit_h"):
            raise samjax.SamjaxError(f"--model {model}: use vit_b-random, vit_l-random, ...")
        return getattr(samjax.SamConfig, name)()
    return None if model == "embedded" else model


def main(arguments: list[str] | None = None) -> None:
    """Run and print."""
    given = parse(arguments)
    if given.rounds < 1:
        raise samjax.SamjaxError(f"--rounds {given.rounds}: at least 1")
    path = given.image or matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    image = samjax.read_image(path)
    models = [
        samjax.load(source(given.model), dtype=dtype, device=given.device) for dtype in given.dtypes
    ]
    competitors = [
        Competitor("samjax", dtype, samjax_jobs(sam, image))
        for dtype, sam in zip(given.dtypes, models, strict=True)
    ]
    absent = missing_official()
    if absent is None:
        competitors.insert(0, Competitor("official", "float32", official_jobs(models[0], image)))
    names = sorted({c.dtype for c in competitors})
    peaks = [Competitor("GEMM", name, {"product": matrix_peak(jnp.dtype(name))}) for name in names]
    measure(competitors + peaks, given.rounds)
    operations = 2.0 * 4096 * 768 * 3072
    rates = {p.dtype: operations / p.median("product") for p in peaks}
    flops = encoder_flops(models[0].config)
    height, width = image.shape[:2]
    print(f"samjax {samjax.__version__}, jax {jax.__version__}, {date.today()}")
    print(f"{models[0].device.device_kind} ({platform.machine()}), image {width} x {height}")
    print(f"{models[0]!r}: encoder {flops / 1e9:.0f} GFLOP")
    rates_text = ", ".join(f"{name} {rate / 1e9:.0f} GFLOP/s" for name, rate in rates.items())
    print(f"measured matrix product: {rates_text}; median of {given.rounds} rounds\n")
    print(table(competitors, rates, flops))
    if absent:
        print(f"\nofficial PyTorch code: missing ({absent}); ratios are to the first row")


if __name__ == "__main__":
    try:
        main()
    except samjax.SamjaxError as error:
        print(error, file=sys.stderr)
        sys.exit(2)

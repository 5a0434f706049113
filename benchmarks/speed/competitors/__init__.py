"""List the competitors, one for each row of the table, and what each needs to run."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from samjax.errors import SamjaxError

_HERE = "benchmarks.speed.competitors."
_TORCH = "pip install torch"
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Competitor:
    """Describes one implementation in one dtype.

    Attributes:
        name: name on the command line and in files.
        label: name in tables.
        module: imported by its worker, which calls its ``load(task)``.
        exporter: module whose ``prepare(task)`` writes files that it loads, or "".
        needs: modules that must be installed.
        install: command that installs them.
        kinds: kinds of devices that it runs on.
        mandatory: required on a CPU, where tables without it are refused.
        caches: whether it keeps compiled code in a cache folder.
        barred: returns another reason why it cannot run, or None.
    """

    name: str
    label: str
    module: str
    dtype: str
    needs: tuple[str, ...] = ()
    install: str = ""
    exporter: str = ""
    compiled: bool = False
    kinds: tuple[str, ...] = ("cpu", "gpu")
    mandatory: bool = False
    caches: bool = False
    barred: Callable[[], str | None] = lambda: None

    def missing(self, kind: str) -> str | None:
        """Return the reason why it cannot run on a device of this kind, or None."""
        if kind not in self.kinds:
            return f"runs on {' and '.join(self.kinds)} only"
        if absent := [name for name in self.needs if importlib.util.find_spec(name) is None]:
            return f"{' and '.join(absent)} not installed ({self.install})"
        return self.barred()


def no_compiler() -> str | None:
    """Return the reason why torch.compile cannot compile C++ for a CPU, or None."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        return f"torch.compile needs a C++ compiler, {compiler} is missing (apt-get install g++)"
    return None


def _samjax(dtype: str) -> Competitor:
    return Competitor(
        f"samjax-{dtype}",
        "samjax",
        _HERE + "samjax_",
        dtype,
        kinds=("cpu", "gpu", "tpu"),
        caches=True,
    )


def _official(dtype: str, compiled: bool = False) -> Competitor:
    return Competitor(
        f"official-{dtype}{'-compile' * compiled}",
        f"official PyTorch{' + compile' * compiled}",
        _HERE + "official",
        dtype,
        needs=("torch", "segment_anything"),
        install=f"{_TORCH} && pip install --no-deps segment-anything",
        compiled=compiled,
        mandatory=not compiled,
        caches=compiled,
        barred=no_compiler if compiled else lambda: None,
    )


def _hugging_face(dtype: str, compiled: bool = False) -> Competitor:
    return Competitor(
        f"huggingface-{dtype}{'-compile' * compiled}",
        f"Hugging Face SDPA{' + compile' * compiled}",
        _HERE + "hugging_face",
        dtype,
        needs=("torch", "transformers"),
        install=f"{_TORCH} && pip install transformers",
        exporter=_HERE + "hugging_face",
        compiled=compiled,
        mandatory=not compiled,
        caches=compiled,
        barred=no_compiler if compiled else lambda: None,
    )


def _from_onnx(
    name: str, label: str, module: str, dtype: str, package: str, kinds: tuple[str, ...]
) -> Competitor:
    return Competitor(
        f"{name}-{dtype}",
        label,
        _HERE + module,
        dtype,
        needs=(package, "torch", "segment_anything", "onnx", "onnxscript"),
        install=(
            f"pip install {package} onnx onnxscript && {_TORCH} && "
            "pip install --no-deps segment-anything"
        ),
        exporter=_HERE + "onnx_files",
        kinds=kinds,
        mandatory=True,
    )


COMPETITORS = (
    _samjax("float32"),
    _samjax("bfloat16"),
    _samjax("float16"),
    _official("float32"),
    _official("bfloat16"),
    _official("float16"),
    _official("float32", compiled=True),
    _official("bfloat16", compiled=True),
    _hugging_face("float32"),
    _hugging_face("bfloat16"),
    _hugging_face("float16"),
    _hugging_face("bfloat16", compiled=True),
    _from_onnx(
        "onnxruntime", "ONNX Runtime", "onnx_runtime", "float32", "onnxruntime", ("cpu", "gpu")
    ),
    _from_onnx("openvino", "OpenVINO", "openvino_", "float32", "openvino", ("cpu",)),
    _from_onnx("openvino", "OpenVINO", "openvino_", "bfloat16", "openvino", ("cpu",)),
    Competitor(
        "kerashub-float32",
        "KerasHub on JAX",
        _HERE + "keras_hub_",
        "float32",
        needs=("keras", "keras_hub", "h5py", "optree", "namex"),
        install="pip install keras h5py optree namex && pip install --no-deps keras-hub",
        kinds=("cpu", "gpu", "tpu"),
    ),
    Competitor(
        "sam-fast-bfloat16",
        "segment-anything-fast",
        _HERE + "official",
        "bfloat16",
        kinds=("gpu",),
        barred=lambda: (
            "its package is tied to PyTorch nightlies of 2023, and its Triton attention gives "
            "wrong outputs for head width 64 at batch 1; its other techniques are in the rows of "
            "official PyTorch with compile and of Hugging Face SDPA"
        ),
    ),
)
PRODUCTS = tuple(
    Competitor(
        f"product-{dtype}",
        "matrix product in JAX",
        _HERE + "product",
        dtype,
        kinds=("cpu", "gpu", "tpu"),
    )
    for dtype in DTYPES
)
REFERENCES = ("official-float32", "samjax-float32")  # the first available one is used


def choose(
    competitors: Sequence[Competitor], only: Sequence[str] | None, dtypes: Sequence[str]
) -> list[Competitor]:
    """Select competitors by dtype and by ``only``: names, or their beginnings up to a hyphen.

    Raises:
        SamjaxError: no competitor has such a name or dtype.
    """
    for dtype in dtypes:
        if dtype not in DTYPES:
            raise SamjaxError(f"--dtypes {dtype}: use {', '.join(DTYPES)}")
    chosen = [c for c in competitors if c.dtype in dtypes]
    if only is None:
        return chosen
    names = [c.name for c in chosen]
    asked: set[str] = set()
    for given in only:
        found = [given] if given in names else [n for n in names if n.startswith(f"{given}-")]
        if not found:
            raise SamjaxError(
                f"--only {given}: no competitor of that name and dtype; use {', '.join(names)}"
            )
        asked.update(found)
    return [c for c in chosen if c.name in asked]


def require_mandatory(missing: Sequence[tuple[Competitor, str]], kind: str) -> None:
    """Refuse to run on a CPU without the mandatory competitors.

    Raises:
        SamjaxError: one is missing; the message has the command that installs it.
    """
    lacking = [(c, reason) for c, reason in missing if c.mandatory and kind == "cpu"]
    if lacking:
        commands = dict.fromkeys(c.install for c, _ in lacking)
        raise SamjaxError(
            f"missing: {', '.join(c.name for c, _ in lacking)}; install them "
            f"({' && '.join(commands)}), or go on without them by --allow-missing"
        )

"""Optimized HLO, read as kernels: how often each runs, its operations and the bytes it moves.

The text is what ``Compiled.as_text()`` gives. A kernel is an instruction of the entry computation
or of a loop's body; a fusion is one kernel. Loops count with their known trip count.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

SIZES = {
    **{"pred": 1, "u8": 1, "s8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2},
    **{"f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8, "u64": 8},
}
FUSED = "fused"  # the key of operations in fused attention, beside dtypes
TRITON = "gpu.triton"  # the call of a kernel of Pallas
_ARRAY = re.compile(rf"\b({'|'.join(SIZES)})\[([\d,]*)\](\{{[^}}]*\}})?")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_FREE = {"parameter", "bitcast", "get-tuple-element", "constant", "tuple", "iota", "after-all"}
_SLICES = {"dynamic-slice", "slice", "gather"}


@dataclass(frozen=True)
class Shape:
    """An array's dtype, dimensions and layout text."""

    dtype: str
    dims: tuple[int, ...]
    layout: str = ""

    @property
    def bytes(self) -> int:
        """Bytes in the device's memory: none for an array that XLA keeps on the chip (S(1))."""
        return 0 if "S(1)" in self.layout else prod(self.dims) * SIZES[self.dtype]


def shapes(text: str) -> list[Shape]:
    """The arrays of a type, in order."""
    return [
        Shape(kind, tuple(int(x) for x in dims.split(",") if x), layout)
        for kind, dims, layout in _ARRAY.findall(text)
    ]


@dataclass(frozen=True)
class Instruction:
    """One line of HLO; ``rest`` is the text behind the opening bracket."""

    name: str
    type: str
    op: str
    rest: str
    operands: tuple[str, ...]
    root: bool

    @property
    def shapes(self) -> list[Shape]:
        """The arrays it makes; the scratch memory of a library's call is not among them."""
        made = shapes(self.type)
        return made[:1] if self.target else made

    def attribute(self, name: str) -> str | None:
        """The computation that an attribute names."""
        found = re.search(rf"\b{name}=%?([\w.\-]+)", self.rest)
        return found and found[1]

    def numbers(self, name: str) -> list[int]:
        """An attribute's list of numbers, with or without quotes."""
        found = re.search(rf'{name}"?[=:][{{\[]([\d,"]*)[}}\]]', self.rest)
        return [int(x) for x in found[1].replace('"', "").split(",") if x] if found else []

    @property
    def target(self) -> str:
        """The library's function that a custom call names."""
        found = re.search(r'custom_call_target="([^"]+)"', self.rest)
        return found[1] if found else ""

    @property
    def source(self) -> str:
        """The names of the JAX functions and scopes that it came from."""
        found = re.search(r'op_name="([^"]*)"', self.rest)
        return found[1] if found else ""


Computation = Mapping[str, Instruction]


@dataclass(frozen=True)
class Kernel:
    """A kernel: ``flops`` by dtype of the operands, bytes read and written, runs."""

    name: str
    source: str
    flops: Counter = field(compare=False)
    bytes: int = 0
    largest: int = 0
    times: int = 1

    @property
    def fused_attention(self) -> bool:
        """Whether this is a fused attention."""
        return FUSED in self.flops


def read(text: str) -> tuple[dict[str, Computation], str]:
    """The computations of a module by name, and the name of the entry."""
    computations: dict[str, dict[str, Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if current is None:
            if header := _COMPUTATION.match(line):
                current = computations.setdefault(header[2], {})
                entry = header[2] if header[1] else entry
        elif line.startswith("}"):
            current = None
        elif found := _INSTRUCTION.match(line):
            root, name, kind, op, rest = found.groups()
            operands = tuple(re.findall(r"%([\w.\-]+)", rest.split("), ")[0]))
            current[name] = Instruction(name, kind, op, rest, operands, bool(root))
    return computations, entry


def kernels(text: str) -> list[Kernel]:
    """Every kernel of an optimized module.

    Raises:
        ValueError: not the text of a module.
    """
    computations, entry = read(text)
    if not entry:
        raise ValueError("no HLO module with an ENTRY computation")
    return list(_walk(computations, computations[entry], 1))


def _walk(
    computations: Mapping[str, Computation], scope: Computation, times: int
) -> Iterator[Kernel]:
    for one in scope.values():
        if one.op in _FREE or one.op.endswith("-done"):
            continue
        if one.op == "while":
            body = computations[one.attribute("body") or ""]
            yield from _walk(computations, body, times * _trips(computations, one))
        elif one.op == "call":
            yield from _walk(computations, computations[one.attribute("to_apply") or ""], times)
        else:
            made = one.shapes
            yield Kernel(
                one.name,
                one.source,
                _flops(computations, one, scope),
                _moved(computations, one, scope),
                max((shape.bytes for shape in made), default=0),
                times,
            )


def _trips(computations: Mapping[str, Computation], loop: Instruction) -> int:
    """How often a loop runs: what XLA says, else the limit that its condition compares with."""
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.rest.replace(" ", ""))
    if known:
        return int(known[1])
    condition = computations[loop.attribute("condition") or ""].values()
    limits = [re.match(r"(\d+)\)", i.rest) for i in condition if i.op == "constant"]
    return max((int(limit[1]) for limit in limits if limit), default=1)


# ---------------------------------------------------------------- bytes


def _moved(computations: Mapping[str, Computation], one: Instruction, scope: Computation) -> int:
    """Bytes that a kernel reads and writes; of an array that it slices only the slices."""
    if one.op in _SLICES:
        return 2 * _bytes(one)
    if one.op.endswith("-start"):  # a copy to or from the chip's own memory, of an array or a slice
        return min(prod(s.dims) * SIZES[s.dtype] for s in one.shapes if s.dims)
    if one.op == "dynamic-update-slice":
        return 2 * _bytes(scope.get(one.operands[1], one))
    inner = computations.get(one.attribute("calls") or "") if one.op == "fusion" else None
    if inner is None:
        return _bytes(one) + sum(_bytes(scope[o]) for o in one.operands if o in scope)
    users: dict[str, list[Instruction]] = {}
    for user in inner.values():
        for operand in user.operands:
            users.setdefault(operand, []).append(user)
    total = 0
    for parameter in (i for i in inner.values() if i.op == "parameter"):
        found = users.get(parameter.name, [])
        sliced = all(u.op in _SLICES and u.operands[0] == parameter.name for u in found)
        updated = all(
            u.op == "dynamic-update-slice" and u.operands[0] == parameter.name for u in found
        )
        if sliced:
            total += sum(_bytes(u) for u in found)
        elif not updated:  # what is updated in place is not read
            total += _bytes(parameter)
    root = next(i for i in inner.values() if i.root)
    while root.op == "bitcast" and root.operands[0] in inner:
        root = inner[root.operands[0]]
    if root.op == "dynamic-update-slice":
        return total + _bytes(inner[root.operands[1]])
    return total + _bytes(one)


def _bytes(one: Instruction) -> int:
    return sum(shape.bytes for shape in one.shapes)


# ---------------------------------------------------------------- operations


def _flops(
    computations: Mapping[str, Computation], one: Instruction, scope: Computation
) -> Counter:
    """Operations of matrix products, by the dtype of their operands."""
    if one.op == "fusion":
        inner = computations.get(one.attribute("calls") or "", {})
        return sum((_flops(computations, i, inner) for i in inner.values()), Counter())
    sides = [made[0] for o in one.operands[:3] if o in scope and (made := scope[o].shapes)]
    made = one.shapes
    if not sides or not made:
        return Counter()
    out = prod(made[0].dims)
    if one.op == "dot":
        depth = prod(sides[0].dims[a] for a in one.numbers("lhs_contracting_dims"))
        return Counter({sides[0].dtype: 2 * depth * out})
    if one.op == "convolution":
        return Counter({sides[0].dtype: convolution_flops(one.rest, sides[0], sides[1], made[0])})
    if "fmha" in one.target:
        b, t, h, width = sides[0].dims
        return Counter({FUSED: 2 * b * h * t * sides[1].dims[1] * (width + sides[2].dims[3])})
    if TRITON in one.target:  # pallas_attention: every query meets every key, twice
        *lead, t, width = sides[0].dims
        return Counter({FUSED: 4 * prod(lead) * t * t * width})
    if "matmul" in one.target or "gemm" in one.target:
        depth = prod(sides[0].dims[a] for a in one.numbers("lhs_contracting_dimensions"))
        return Counter({sides[0].dtype: 2 * depth * out})
    return Counter()


def convolution_flops(rest: str, left: Shape, right: Shape, out: Shape) -> int:
    """Operations of a convolution, which on a TPU every product is.

    Batched products are written as windows that meet one valid position each: positions outside
    the padded input, or in its dilation's gaps, cost nothing, as in XLA's own account.
    """
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", rest)
    assert labels is not None
    written = re.search(r"window=\{([^}]*)\}", rest)
    window = dict(re.findall(r"(\w+)=([\dx_\-]+)", written[1])) if written else {}
    spatial = [c for c in labels[3] if c.isdigit()]
    total = 2 * prod(out.dims[labels[3].index(c)] for c in "bf") * right.dims[labels[2].index("i")]
    for i, c in enumerate(sorted(spatial)):

        def of(name: str, default: str, i: int = i) -> str:
            return window[name].split("x")[i] if name in window else default

        low = int(of("pad", "0_0").split("_")[0])
        total *= valid_positions(
            left.dims[labels[1].index(c)], right.dims[labels[2].index(c)],
            out.dims[labels[3].index(c)], int(of("stride", "1")), low,
            int(of("lhs_dilate", "1")), int(of("rhs_dilate", "1")),
        )  # fmt: skip
    return total


def valid_positions(
    inputs: int, window: int, outputs: int, stride: int, low: int, spread: int, gap: int
) -> int:
    """Pairs of an output and a window's element that meet an element of the input, on one axis."""
    return sum(
        at % spread == 0 and 0 <= at < inputs * spread
        for o in range(outputs)
        for at in range(o * stride - low, o * stride - low + window * gap, gap)
    )


def total_flops(found: Sequence[Kernel]) -> Counter:
    """All operations of kernels, by dtype."""
    total: Counter = Counter()
    for kernel in found:
        for kind, count in kernel.flops.items():
            total[kind] += count * kernel.times
    return total

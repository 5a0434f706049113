"""The command line: ``samjax COMMAND``.

Exit codes: 0 done; 2 wrong use or input, with one line on stderr that says what, why and what to
do; 130 interrupted. What is heavy is imported by the command that needs it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.main import get_command

from samjax import __version__
from samjax.commands.automask_command import automask
from samjax.commands.options import Device, Dtype, Model, Precision
from samjax.errors import SamjaxError

app = typer.Typer(
    name="samjax",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # errors are one line, not a box
    context_settings={"help_option_names": ["-h", "--help"]},
)
# Typer carries its own copy of click in newer versions: the class is found through what it exports.
_UsageError = typer.BadParameter.__mro__[1]


def _print_version(wanted: bool) -> bool:
    if wanted:
        print(f"samjax {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def samjax(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Segment Anything in JAX: from clicks and boxes to masks."""


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write.")
    ] = Path("samjax-demo"),
    model: Model = "embedded",
    device: Device = None,
    dtype: Dtype = "float32",
    precision: Precision = "highest",
) -> None:
    """Segment a sample photograph, without a network.

    With a click, boxes and a negative point. Writes demo.png, the picture to look at, and for
    each prompt the files that samjax segment writes; replaces those of an earlier demo.
    """
    from samjax.commands.demo import run_demo

    for line in run_demo(out, model, device=device, dtype=dtype, precision=precision):
        print(line)


@app.command()
def segment(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE", help="JPEG, PNG, TIFF, BMP, WebP or GIF.", show_default=False
        ),
    ],
    point: Annotated[
        list[str] | None,
        typer.Option(
            "--point",
            "-p",
            metavar="X,Y[,LABEL]",
            help="A point; LABEL 1: the object (default), 0: not part of it. Repeat for more "
            "points of the same object.",
        ),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(
            "--box",
            "-b",
            metavar="X0,Y0,X1,Y1",
            help="A box around the object, top left and bottom right. Repeat for more objects.",
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A rough mask of the object to refine: a picture of the image's size, white on "
            "black.",
        ),
    ] = None,
    model: Model = "embedded",
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write.")
    ] = Path("samjax-masks"),
    single: Annotated[
        bool, typer.Option("--single", help="One mask an object instead of three.")
    ] = False,
    threshold: Annotated[
        float, typer.Option(metavar="T", help="Logit above which a pixel belongs to a mask.")
    ] = 0.0,
    device: Device = None,
    dtype: Dtype = "float32",
    precision: Precision = "highest",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results of an earlier run.")
    ] = False,
) -> None:
    """Cut objects out of images by points, boxes or a rough mask.

    Coordinates are pixels of the image as a viewer shows it (EXIF applied), from 0,0 at the top
    left. The same prompts serve every IMAGE. All points belong to one object, with at most one
    box; several boxes are several objects.

    For photo.jpg it writes photo_mask_1.png (0 and 255) and so on, by falling score;
    photo_masks.npz (masks, scores, low_res logits); photo.json (prompts, model, scores, files);
    photo_overlay.png (the best mask with the prompts). Several objects:
    photo_object1_mask_1.png.
    """
    from samjax.commands.request import parse_request

    request = parse_request(point or (), box or (), mask)

    from samjax.commands.segment import Job, run_segment

    run_segment(
        Job(
            images=tuple(images),
            request=request,
            model=model,
            out=out,
            single=single,
            threshold=threshold,
            dtype=dtype,
            device=device,
            precision=precision,
            overwrite=overwrite,
        )
    )


app.command()(automask)


@app.command()
def inspect(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A file or folder, embedded, or vit_b, vit_l, vit_h if downloaded.",
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Say what a checkpoint is: family, sizes, dtype, notes."""
    import json

    from samjax.checkpoint.describe import describe, describe_rows
    from samjax.commands.loading import local_path

    description = describe(local_path(checkpoint))
    if as_json:
        print(json.dumps(description.as_dict(), indent=2, ensure_ascii=False))
    else:
        _print_rows(describe_rows(description))


@app.command()
def convert(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="Any checkpoint that samjax loads, or its name.")
    ],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="NAME.pth or NAME.safetensors (official layout, for PyTorch too), or NAME without "
            "an ending (a folder in samjax's own format).",
        ),
    ],
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="float32, float16 or bfloat16 for all weights.",
            show_default="as stored",
        ),
    ] = None,
    preprocess: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Preprocessing to record.", show_default="as stored"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")] = False,
) -> None:
    """Convert a checkpoint to another format or dtype."""
    from samjax.commands.loading import run_convert

    print(run_convert(source, target, dtype=dtype, preprocess=preprocess, overwrite=overwrite))


@app.command()
def download(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="vit_b, vit_l or vit_h.")],
) -> None:
    """Fetch official weights, check their sha256, and print the path."""
    from samjax.checkpoint import hub

    print(hub.fetch(model))


@app.command()
def info() -> None:
    """Show versions, devices and whether a GPU lies idle."""
    from samjax.commands.info import info_rows

    _print_rows(info_rows())


def _print_rows(rows: Sequence[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (default: the process's own) and return its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = get_command(app).main(
            args=given or ["--help"],
            prog_name="samjax",
            standalone_mode=False,
        )
        sys.stdout.flush()
    except BrokenPipeError:
        return _quiet_pipe()
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except SystemExit as stop:  # typer's own answer to a broken pipe
        return stop.code if isinstance(stop.code, int) else 1
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        return _fail(message)
    if code == 130:
        return _fail("interrupted", code)
    return code if isinstance(code, int) else 0


def explain(error: Exception) -> str | None:
    """One line for what the user or the machine did wrong; None for a fault of the program."""
    if isinstance(error, SamjaxError):
        return str(error)
    if isinstance(error, _UsageError):
        command = error.ctx.command_path if error.ctx else "samjax"  # type: ignore[attr-defined]
        message = error.format_message().rstrip(".")  # type: ignore[attr-defined]
        return f"{message}; see {command} --help"
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return "out of memory: try --dtype bfloat16, a smaller image or model, or another --device"
    if isinstance(error, RuntimeError) and "backend" in str(error):
        return f"JAX does not start: {error}; see samjax info, JAX_PLATFORMS and your drivers"
    if isinstance(error, OSError):
        named = f"{error.filename}: " if error.filename else ""
        return f"{named}{error.strerror or error}; check path, permissions and free space"
    return None


def _fail(message: str, code: int = 2) -> int:
    print(f"samjax: {' '.join(message.splitlines())}", file=sys.stderr)
    return code


def _quiet_pipe() -> int:
    """The reader went away: say nothing, also not when Python flushes at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    return 1

"""Define the command line, ``samjax COMMAND``.

Exit codes: 0 done; 2 wrong use or input, with one line on stderr that says what, why and what to
do; 130 interrupted. What is heavy is imported by the command that needs it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from typer.main import get_command

from samjax import __version__
from samjax.commands.automask_command import automask
from samjax.commands.check import check
from samjax.commands.export import export
from samjax.commands.job_command import job
from samjax.commands.messages import (
    explain,
    fail,
    print_rows,
    quiet_pipe,
    warnings_in_one_line,
    without_half_made_bars,
)
from samjax.commands.models import download, lock, models
from samjax.commands.options import (
    Base,
    Device,
    Dtype,
    Ignore,
    ImageSize,
    Lock,
    LoraLayers,
    Model,
    Precision,
    Prefix,
    Preset,
    RecordedThreshold,
)
from samjax.commands.segment_dataset import segment_dataset
from samjax.errors import printable

app = typer.Typer(
    name="samjax",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # errors are one line, not a box
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    """Segment anything in JAX: from clicks and boxes to masks."""


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write.")
    ] = Path("samjax-demo"),
    model: Model = "embedded",
    device: Device = None,
    dtype: Dtype = "auto",
    precision: Precision = "highest",
) -> None:
    """Segment a sample photograph, without a network.

    With a click, boxes and a negative point. Writes demo.png, the picture to look at, photo.jpg,
    the photograph, and for each prompt the files that samjax segment writes; replaces those of
    an earlier demo.
    """
    from samjax.commands.demo import run_demo
    from samjax.engine.spec import ModelSpec

    spec = ModelSpec(model, dtype=dtype, precision=precision, device=device)
    for line in run_demo(out, spec):
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
            "black. Alone, its box and its innermost point are given too: SAM needs them.",
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            "-t",
            metavar="PHRASES",
            help="What to find, phrases separated by dots: 'a dog . a cat .'. SAM itself knows no "
            "words: a detector finds boxes for them. Needs pip install 'samjax[text]'.",
        ),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|NAME",
            help="Grounding DINO or OWLv2 for --text: a folder, or a name on Hugging Face "
            "(downloaded once).",
            show_default="IDEA-Research/grounding-dino-tiny",
        ),
    ] = None,
    box_threshold: Annotated[
        float | None,
        typer.Option(
            metavar="T",
            help="Confidence above which the detector's boxes count; lower finds more.",
            show_default="0.35 for Grounding DINO, 0.1 for OWLv2",
        ),
    ] = None,
    model: Model = "embedded",
    base: Base = None,
    preprocess: Preset = None,
    image_size: ImageSize = None,
    lora_layers: LoraLayers = None,
    lock: Lock = None,
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
    dtype: Dtype = "auto",
    precision: Precision = "highest",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results of an earlier run.")
    ] = False,
) -> None:
    """Cut objects out of images by points, boxes, a rough mask or words.

    Coordinates are pixels of the image as a viewer shows it (EXIF applied), from 0,0 at the top
    left. The same prompts serve every IMAGE. All points belong to one object, with at most one
    box; several boxes are several objects.

    For photo.jpg it writes photo_mask_1.png (0 and 255) and so on, by falling score;
    photo_masks.npz (masks, scores, low_res logits); photo.json (prompts, model, scores, files);
    photo_overlay.png (the best mask with the prompts). Several objects, and those of a text:
    photo_object1_mask_1.png; with a text, .json and .npz have the labels and the detector's
    scores too.
    """
    from samjax.commands.request import Request, parse_request

    in_words = text is not None or detector is not None or box_threshold is not None
    request = Request((), ()) if in_words else parse_request(point or (), box or (), mask)

    from samjax.commands.checkpoints import parse_lora_layers
    from samjax.commands.segment import SegmentJob, run_segment
    from samjax.engine.spec import ModelSpec

    layers = parse_lora_layers(lora_layers)
    spec = ModelSpec(model, dtype, precision, device, preprocess, base, layers, image_size)
    job = SegmentJob(
        images=tuple(images),
        request=request,
        model=replace(spec, lock=lock),
        out=out,
        single=single,
        threshold=threshold,
        overwrite=overwrite,
    )
    if not in_words:
        raise typer.Exit(run_segment(job))

    from samjax.commands.segment_text import parse_text, run_segment_text

    others = {"--point": point, "--box": box, "--mask": mask}
    besides = [option for option, value in others.items() if value]
    raise typer.Exit(run_segment_text(job, parse_text(text, detector, box_threshold, besides)))


app.command()(automask)
app.command()(check)
app.add_typer(job, name="job")
app.command()(segment_dataset)


@app.command()
def inspect(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A file or folder, embedded, or a name or address (downloaded once).",
        ),
    ],
    base: Base = None,
    image_size: ImageSize = None,
    lora_layers: LoraLayers = None,
    prefix: Prefix = None,
    ignore: Ignore = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Say what a checkpoint is: family, sizes, dtype, notes."""
    import json

    from samjax.checkpoint.describe import describe_rows
    from samjax.commands.checkpoints import parse_lora_layers, run_inspect
    from samjax.engine.spec import ModelSpec

    layers, ignored = parse_lora_layers(lora_layers), tuple(ignore or ())
    spec = ModelSpec(checkpoint, base=base, image_size=image_size, lora_layers=layers)
    spec = replace(spec, prefix=prefix, ignore=ignored)
    description = run_inspect(spec)
    if as_json:
        print(json.dumps(description.as_dict(), indent=2))
    else:
        print_rows(describe_rows(description))


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
    preprocess: Preset = None,
    base: Base = None,
    image_size: ImageSize = None,
    lora_layers: LoraLayers = None,
    prefix: Prefix = None,
    ignore: Ignore = None,
    pred_iou_thresh: RecordedThreshold = None,
    stability_score_thresh: RecordedThreshold = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")] = False,
) -> None:
    """Convert a checkpoint to another format or dtype."""
    from samjax.commands.checkpoints import parse_lora_layers, run_convert
    from samjax.engine.spec import ModelSpec

    layers, ignored = parse_lora_layers(lora_layers), tuple(ignore or ())
    spec = ModelSpec(source, base=base, image_size=image_size, lora_layers=layers)
    spec = replace(spec, preprocess=preprocess, prefix=prefix, ignore=ignored)
    thresholds = pred_iou_thresh, stability_score_thresh
    written = run_convert(spec, target, dtype=dtype, thresholds=thresholds, overwrite=overwrite)
    print(printable(written))


app.command()(export)
app.command()(models)
app.command()(download)
app.command()(lock)


@app.command()
def info() -> None:
    """Show versions, devices and whether a GPU lies idle."""
    from samjax.commands.info import info_rows

    print_rows(info_rows())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (default: the process's own) and return its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if arguments is None:
        sys.unraisablehook = without_half_made_bars(sys.unraisablehook)
    try:
        with warnings_in_one_line():
            code = get_command(app).main(
                args=given or ["--help"],
                prog_name="samjax",
                standalone_mode=False,
            )
        sys.stdout.flush()
    except BrokenPipeError:
        return quiet_pipe()
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except SystemExit as stop:  # typer's own answer to a broken pipe
        return stop.code if isinstance(stop.code, int) else 1
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        return fail(message)
    if code == 130:
        return fail("interrupted", code)
    return code if isinstance(code, int) else 0

"""Compare fine-tuned families with independent implementations of them.

The implementations were written without seeing samjax's. Files are saved as the families save
them and loaded by ``samjax.load``; photographs and prompts
then go through ``samjax.SamPredictor`` and through each family's own inference.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from matplotlib import cbook
from PIL import Image

import samjax
from tests.support.parity import independent as families
from tests.support.parity.independent import OfficialPredictor
from tests.support.parity.measure import FOREGROUND, LOGITS, SCORES, Ledger

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def coffee() -> np.ndarray:
    return skimage.data.coffee()  # 400 x 600, colour


@pytest.fixture(scope="module")
def hopper() -> np.ndarray:
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        return np.array(Image.open(file))  # 600 x 512, colour


def prompts(image: np.ndarray) -> dict[str, dict]:
    """Make arguments of ``predict`` in pixels of this image."""
    h, w = image.shape[:2]
    point = {"point_coords": np.array([[0.45 * w, 0.5 * h]]), "point_labels": np.array([1])}
    points = {
        "point_coords": np.array([[0.3 * w, 0.6 * h], [0.8 * w, 0.2 * h]]),
        "point_labels": np.array([1, 0]),
    }
    box = {"box": np.array([0.2 * w, 0.2 * h, 0.8 * w, 0.9 * h]).round()}
    return {"point": point, "points": points, "box": box, "box and points": {**points, **box}}


def iou(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Compute the IoU with a mask that must be neither nearly empty nor nearly full."""
    assert ours.shape == theirs.shape
    assert FOREGROUND[0] < theirs.mean() < FOREGROUND[1], f"foreground {theirs.mean():.3f}"
    return float((ours & theirs).sum() / (ours | theirs).sum())


class Comparison:
    """Records the errors of one family in the ledger."""

    def __init__(self, ledger: Ledger, family: str) -> None:
        self.ledger, self.family = ledger, family

    def low_res(self, ours: np.ndarray, theirs: np.ndarray, limit: float = LOGITS) -> None:
        theirs = np.asarray(theirs)
        assert ours.shape == theirs.shape
        error = float(np.abs(ours - theirs).max() / theirs.std())
        self.ledger.note(f"independent {self.family}: logits, of std", error, limit)

    def scores(self, ours: np.ndarray, theirs: np.ndarray, limit: float = SCORES) -> None:
        theirs = np.asarray(theirs)
        assert ours.shape == theirs.shape
        error = float(np.abs(ours - theirs).max())
        self.ledger.note(f"independent {self.family}: predicted IoU", error, limit)

    def masks(self, ours: np.ndarray, theirs: np.ndarray, least: float) -> None:
        assert ours.shape == theirs.shape
        worst = min(iou(a, b) for a, b in zip(ours, theirs, strict=True))
        self.ledger.note(f"independent {self.family}: 1 - mask IoU", 1 - worst, 1 - least)

    def official(
        self,
        sam: torch.nn.Module,
        ours: samjax.SamPredictor,
        image: np.ndarray,
        shown: np.ndarray | None = None,
    ) -> None:
        """Compare the official predictor on ``shown`` with samjax on ``image``."""
        theirs = OfficialPredictor(sam)
        theirs.set_image(image if shown is None else shown)
        ours.set_image(image)
        for prompt in prompts(image).values():
            for multi in (False, True):
                a = ours.predict(**prompt, multimask_output=multi)
                b = theirs.predict(**prompt, multimask_output=multi)
                self.low_res(a[2], b[2])
                self.scores(a[1], b[1])
                self.masks(a[0], b[0], 0.999)


def load(path: Path, **arguments) -> samjax.SamPredictor:
    return samjax.SamPredictor(samjax.load(path, **arguments))


def save(sam: torch.nn.Module, path: Path) -> Path:
    torch.save(sam.state_dict(), path)
    return path


def far_from(base: torch.nn.Module, tuned: torch.nn.Module, image: np.ndarray) -> bool:
    """Tell whether the tuned weights matter: their embedding is far from the base's."""
    embeddings = []
    for sam in (base, tuned):
        predictor = OfficialPredictor(sam)
        predictor.set_image(image)
        embeddings.append(predictor.features)
    return bool((embeddings[0] - embeddings[1]).std() > 0.2 * embeddings[0].std())


@pytest.mark.parametrize("layers", [None, [0, 2]])
def test_sam_lora(layers, coffee, tmp_path, ledger):
    base = families.drawn(families.sizes(), seed=1)
    families.settle_on(base, coffee)
    path = save(base, tmp_path / "base.pth")
    tuned = families.SamLora(copy.deepcopy(base), 4, layers)
    families.train_lora([*tuned.w_As, *tuned.w_Bs], seed=2)
    tuned.save_lora_parameters(tmp_path / "lora.safetensors")
    assert far_from(base, tuned.sam, coffee)
    ours = load(tmp_path / "lora.safetensors", base=path, lora_layers=layers)
    Comparison(ledger, "Sam_LoRA").official(tuned.sam, ours, coffee)


@pytest.fixture(scope="module")
def samed(tmp_path_factory) -> tuple[families.Samed, Path, Path]:
    """Build a network of eight classes at 512 pixels, its file, and the base at 1024."""
    folder = tmp_path_factory.mktemp("samed")
    start = families.drawn(families.sizes(1024), seed=3)
    with torch.no_grad():  # for values of 0 to 1
        start.image_encoder.patch_embed.proj.weight.mul_(8)
    base = save(start, folder / "base.pth")
    config = families.sizes(512, masks=8)

    def fresh() -> families.Samed:
        return families.Samed(families.build_samed(config, base), rank=4)

    net = fresh()
    families.train_lora([*net.w_As, *net.w_Bs], seed=4)
    trained = families.drawn(config, seed=5)
    net.sam.prompt_encoder.load_state_dict(trained.prompt_encoder.state_dict())
    net.sam.mask_decoder.load_state_dict(trained.mask_decoder.state_dict())
    with torch.no_grad():
        image = families.samed_input(skimage.data.camera() / 255, 512)
        embedding = net.sam.image_encoder(net.sam.preprocess(image))
        families.settle(net.sam, embedding, [(None, None)])
    net.save_lora_parameters(folder / "epoch_159.pth")
    read = fresh()
    read.load_lora_parameters(folder / "epoch_159.pth")
    return read, folder / "epoch_159.pth", base


@pytest.mark.parametrize("picture", ["camera", "coins"])
def test_samed(picture, samed, ledger):
    """512 x 512 is not zoomed; 303 x 384 is, and the labels are zoomed back."""
    net, path, base = samed
    image = (getattr(skimage.data, picture)() / 255).astype(np.float32)
    labels, outputs = families.samed_labels(net, image)
    ours = load(path, base=base, preprocess="samed", image_size=512)
    ours.set_image(image)
    masks, scores, low_res = ours.predict()
    comparison = Comparison(ledger, "SAMed")
    # Of the nine tokens the first is the background, which is no mask
    theirs = outputs["low_res_logits"][0, 1:].numpy()
    comparison.low_res(low_res, theirs)
    comparison.scores(scores, outputs["iou_predictions"][0, 1:].numpy())
    comparison.masks(masks, labels == np.arange(1, 9)[:, None, None], 0.999)
    _, other = families.samed_labels(net, 1 - image)
    assert (theirs - other["low_res_logits"][0, 1:].numpy()).std() > 0.2 * theirs.std()
    ours.set_image((255 * image).round().astype(np.uint8))
    comparison.low_res(ours.predict()[2], theirs)


def test_samed_volume(samed, ledger):
    """A slice of a volume goes through 224 pixels first (utils.py): samjax leaves that to users.

    The zoomed slice then gives the same logits; the labels come back at its size. SAMed does not
    clip what the spline makes: -0.007 to 1.08 here.
    """
    net, path, base = samed
    slice_224 = families.samed_input(skimage.data.camera() / 255, 224)[0, 0].numpy()
    assert slice_224.max() > 1
    _, outputs = families.samed_labels(net, slice_224)
    ours = load(path, base=base, preprocess="samed", image_size=512)
    ours.set_image(slice_224)
    low_res = ours.predict()[2]
    Comparison(ledger, "SAMed").low_res(low_res, outputs["low_res_logits"][0, 1:].numpy())


@pytest.mark.parametrize("picture", ["coffee", "hopper", "grey"])
def test_medsam(picture, coffee, hopper, tmp_path, ledger):
    image = {"coffee": coffee, "hopper": hopper, "grey": skimage.data.coins()}[picture]
    sam = families.drawn(families.sizes(512), seed=6)
    h, w = image.shape[:2]
    with torch.no_grad():
        embedding = sam.image_encoder(families.medsam_image(image, 512))
    boxes = [
        np.array(box) * (w, h, w, h) // 1 for box in ([0.2, 0.2, 0.8, 0.9], [0.1, 0.5, 0.6, 1])
    ]
    scaled = [families.medsam_box(box, h, w, 512) for box in boxes]
    families.settle(sam, embedding, [(None, box[0]) for box in scaled])
    ours = load(save(sam, tmp_path / "medsam_vit_b.pth"), preprocess="medsam")
    ours.set_image(image)
    comparison = Comparison(ledger, "MedSAM")
    for box, box_512 in zip(boxes, scaled, strict=True):
        mask, low_res = families.medsam_inference(sam, embedding, box_512, h, w)
        masks, _, logits = ours.predict(box=box, multimask_output=False)
        comparison.low_res(logits, low_res[0].numpy())
        comparison.masks(masks, mask[None], 0.999)


@pytest.mark.parametrize("picture", ["coffee", "hopper"])
def test_sammed2d(picture, coffee, hopper, tmp_path, ledger):
    image = {"coffee": coffee, "hopper": hopper}[picture]
    sam = families.drawn(families.sizes(256), seed=7)
    families.settle_on(sam, image)
    families.save_sammed2d(sam, tmp_path / "ft-sam_b.pth")
    ours = load(tmp_path / "ft-sam_b.pth", preprocess="sammed2d")
    theirs = families.Sammed2dPredictor(sam)
    ours.set_image(image)
    theirs.set_image(image)
    comparison = Comparison(ledger, "SAM-Med2D")
    for prompt in prompts(image).values():
        for multi in (False, True):
            a = ours.predict(**prompt, multimask_output=multi)
            b = theirs.predict(**prompt, multimask_output=multi)
            comparison.low_res(a[2], b[2])
            comparison.scores(a[1], b[1])
            comparison.masks(a[0], b[0], 0.999)


# Of what a microscope gives; the last one is a photograph whose channels are all stretched
MICROSCOPE = {
    "uint16": lambda image: image[..., 1].astype(np.uint16) * 77 + 500,
    "float32": lambda image: image.astype(np.float32) * 3.7 - 50,
    "uint8": lambda image: image // 2 + 20,
}


@pytest.mark.parametrize(
    ("matrices", "save_as", "values"),
    [
        ("qv", families.save_torch_em, "uint16"),
        ("qv", families.save_exported, "float32"),
        (("q", "k", "v", "mlp"), families.save_torch_em, "uint8"),
    ],
    ids=["q v, training file", "q v, exported", "q k v mlp, training file"],
)
def test_micro_sam(matrices, save_as, values, coffee, tmp_path, ledger):
    image = MICROSCOPE[values](coffee)
    shown = families.to_image(image)
    base = families.drawn(families.sizes(), seed=8)
    tuned = families.peft_sam(copy.deepcopy(base), 4, matrices)
    families.train_lora([m for name, m in tuned.named_modules() if "_linear_" in name], seed=9)
    families.settle_on(tuned, shown)
    assert far_from(base, tuned, shown)
    save_as(tuned, tmp_path / "best.pt")
    ours = load(tmp_path / "best.pt", preprocess="microsam")
    Comparison(ledger, "micro-sam").official(tuned, ours, image, shown)


def test_micro_sam_saturated(coffee, tmp_path, ledger):
    """Floats whose maximum is 1 become 0..254 in micro-sam, by the 1e-7 of its division."""
    image = np.clip(coffee[..., 0] / 128, 0, 1).astype(np.float32)
    sam = families.drawn(families.sizes(), seed=8)
    shown = families.to_image(image)
    assert shown.max() == 254
    families.settle_on(sam, shown)
    ours = load(save(sam, tmp_path / "vit_b_lm.pth"), preprocess="microsam")
    Comparison(ledger, "micro-sam, saturated").official(sam, ours, image, shown)


@pytest.mark.parametrize(("width", "mlp"), [(168, 696), (384, 1536)], ids=["77", "50"])
def test_slimsam(width, mlp, coffee, tmp_path, ledger):
    config = families.sizes(width=width, heads=12)
    sam = families.build_slimsam(config, mlp)
    families.randomise(sam, torch.Generator().manual_seed(10))
    families.settle_on(sam, coffee)
    path = save(sam, tmp_path / "SlimSAM-uniform.pth")
    assert torch.load(path)["image_encoder.blocks.0.mlp.lin1.weight"].shape == (mlp, width)
    Comparison(ledger, "SlimSAM-uniform").official(sam, load(path), coffee)

"""Compare the suite with official PyTorch classes, OpenCV, scikit-image, surface-distance."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import samjax
from benchmarks.miou import classical, cli, edge_maps, independent, med
from benchmarks.miou.clickers import Click, depth
from benchmarks.miou.datasets import open_dataset
from benchmarks.miou.edges import scores
from benchmarks.miou.metrics import surface_dice
from samjax.checkpoint.orbax_folder import Checkpoint, save_orbax_folder
from samjax.errors import SamjaxError
from tests.benchmarks.test_killed import check_killed
from tests.support.benchmarks.drawn import OBJECTS, Knowing, draw_folder, echo, label_map

pytestmark = pytest.mark.parity


def regions(image: np.ndarray) -> np.ndarray:
    """Label connected areas of similar brightness as targets, uint8."""
    grey = ndimage.gaussian_filter(image.astype(np.float64).mean(-1), 6)
    levels = np.digitize(grey, np.quantile(grey, [0.25, 0.5, 0.75]))
    result, count = np.zeros(grey.shape, np.uint8), 0
    for level in range(4):
        found, number = ndimage.label(levels == level)
        for part in range(1, number + 1):
            if (found == part).sum() > 0.04 * grey.size and count < 255:
                count += 1
                result[found == part] = count
    return result


@pytest.fixture(scope="module")
def photographs(tmp_path_factory, photo):
    """Write a photograph, and a part of it on its side, with label maps."""
    root = tmp_path_factory.mktemp("photographs")
    images = [photo, np.ascontiguousarray(photo[100:420].swapaxes(0, 1))]
    for number, image in enumerate(images):
        for folder, array in (("images", image), ("labels", regions(image))):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / folder / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def overview(photographs, tmp_path_factory):
    """Run overview on the photographs and return its folder."""
    out = tmp_path_factory.mktemp("overview")
    cli.main(["overview", "--data", str(photographs), "--out", str(out), "--classical", "0"])
    return out


@pytest.fixture
def finished(overview, tmp_path):
    """Copy that folder, for tests that change it."""
    return Path(shutil.copytree(overview, tmp_path / "finished"))


def test_miou_is_that_of_the_official_classes(photographs, finished, capsys):
    arguments = ["--data", str(photographs), "--run", str(finished)]
    assert independent.main(arguments) == 0
    text = (finished / "official.md").read_text()
    assert text in capsys.readouterr().out
    assert "Agrees: means within 0.001, 99% of the masks within 0.01." in text
    rows = [line for line in text.splitlines() if "100.00%" in line]
    assert len(rows) == len(independent.MEASURES)
    masks = len((finished / "masks.csv").read_text().splitlines()) - 1
    assert masks >= 10
    assert all(row.endswith(f"| {masks} |") for row in rows)

    # Killed after the first image: only the second one is asked for again.
    journal = finished / "official.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole[: whole.index(b"\n", whole.index(b"\n") + 1) + 40])
    assert independent.main(arguments) == 0
    assert journal.read_bytes() == whole
    assert (finished / "official.md").read_text() == text

    # A run that is a little off is noticed.
    table = finished / "masks.csv"
    lines = table.read_text().splitlines()
    column = lines[0].split(",").index("box")
    cells = lines[1].split(",")
    cells[column] = f"{float(cells[column]) - 0.2:.6f}"
    table.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")
    with pytest.raises(SamjaxError, match=r"another masks\.csv .* remove this file"):
        independent.main(arguments)
    journal.unlink()
    assert independent.main([*arguments, "--limit", "1"]) == 1
    assert "DISAGREES" in (finished / "official.md").read_text()
    assert (finished / "official.md").read_text().endswith(": box\n")


def test_other_weights_or_data_are_refused(photographs, finished, tmp_path, small):
    with pytest.raises(SamjaxError, match="not a finished run"):
        independent.main(["--data", str(photographs), "--run", str(tmp_path)])
    other = draw_folder(tmp_path / "d", "images", "labels", lambda own: [label_map(own)], "")
    with pytest.raises(SamjaxError, match=r"holds no mask|are not in"):
        independent.main(["--data", str(other), "--run", str(finished)])
    folder = tmp_path / "small"
    save_orbax_folder(folder, Checkpoint(small.parameters(), small.config, "random", "sam"))
    with pytest.raises(SamjaxError, match="a run of other weights"):
        independent.main(
            ["--data", str(photographs), "--run", str(finished), "--model", str(folder)]
        )


def test_a_difference_is_noticed():
    good = independent.Agreement(0.5, 0.5005, 0.995, 100)
    assert good.good
    assert not good._replace(theirs=0.502).good
    assert not good._replace(within=0.98).good


def test_clicks_are_where_opencv_finds_them():
    import cv2

    rng = np.random.default_rng(0)
    for _ in range(20):
        region = ndimage.gaussian_filter(rng.normal(size=(70, 90)), 4) > 0
        padded = np.pad(region.astype(np.uint8), 1)
        theirs = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
        assert depth(region) == pytest.approx(theirs, abs=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_surface_dice_is_that_of_surface_distance():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import surface_distance

    rng = np.random.default_rng(0)
    for number in range(20):
        a = ndimage.gaussian_filter(rng.normal(size=(40, 50)), 1 + number % 3) > 0.02
        b = np.roll(a, rng.integers(-4, 5, 2), (0, 1)) ^ (rng.random(a.shape) < 0.003)
        for tolerance in (1.0, 2.0):
            for slab in (False, True):
                x, y = (m[..., None] if slab else m for m in (a, b))
                found = surface_distance.compute_surface_distances(x, y, (1.0,) * x.ndim)
                theirs = surface_distance.compute_surface_dice_at_tolerance(found, tolerance)
                assert surface_dice(b, a, tolerance, slab) == pytest.approx(theirs, abs=1e-12)


def test_stretching_is_that_of_opencv_and_scikit_image(photo):
    import cv2
    from skimage.transform import resize

    theirs = cv2.resize(photo, (med.SIDE, med.SIDE), interpolation=cv2.INTER_CUBIC)
    difference = np.abs(med.stretch(photo).astype(int) - theirs.astype(int))
    assert difference.max() <= 1  # OpenCV's fixed-point weights
    labels = regions(photo)
    size = (med.SIDE, med.SIDE)
    large = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    assert (med.stretch_labels(labels.astype(np.int64)) == large).all()
    mask = large == 1
    small = resize(
        mask.astype(np.uint8), labels.shape, order=0, preserve_range=True, anti_aliasing=False
    )
    assert (med.shrink_mask(mask, labels.shape) == (small > 0)).mean() > 0.999


def test_classical_methods_cut_out_a_plain_object():
    image = np.full((60, 80, 3), 90, np.uint8)
    image += np.random.default_rng(0).integers(0, 8, image.shape, dtype=np.uint8)
    mask = np.zeros((60, 80), bool)
    mask[15:45, 20:50] = True
    image[mask] += 110
    clicks = [Click(35, 30, 1), Click(65, 30, 0)]
    found, failed = classical.grabcut(image, (16, 11, 54, 49))
    assert not failed
    for result in (
        found,
        classical.random_walker(image, clicks),
        classical.flood_fill(image, clicks[0]),
    ):
        assert (result == mask).mean() > 0.98
    everything, failed = classical.grabcut(image, (0, 0, 80, 60))
    assert failed
    assert everything.all()


def test_the_overview_samples_classical_methods(tmp_path, monkeypatch, small):
    root = draw_folder(tmp_path / "d", "images", "labels", lambda own: [label_map(own)], "")
    predictor = Knowing(open_dataset(root), echo)
    monkeypatch.setattr(cli, "load_models", lambda _: [small])
    monkeypatch.setattr(samjax, "SamPredictor", lambda _: predictor)
    out = str(tmp_path / "out")
    summary = cli.main(["overview", "--data", str(root), "--out", out, "--classical", "4"])
    sample = summary["sample"]
    assert sample["click"] == {"mean": 1, "low": 1, "high": 1, "count": 4}
    assert sample["grabcut"]["count"] == sample["walker_1"]["count"] == 4
    assert 0.5 < sample["flood"]["mean"] <= 1


def outline_map(labels: np.ndarray) -> np.ndarray:
    return edge_maps.outlines(labels.astype(np.int64))


def test_edges_of_the_truth_score_one():
    truths = [outline_map(label_map(own)) for own in OBJECTS]
    counts = [edge_maps.compare(t.astype(np.float64), [t, t]) for t in truths]
    found = scores(counts)
    assert (found["ODS"], found["OIS"], found["R50"]) == (1, 1, 1)


def test_edges_with_half_of_the_truth_score_two_thirds():
    """Precision 1, recall 1/2 at every threshold."""
    truth = np.zeros((60, 80), bool)
    truth[10, 10:30] = truth[40, 10:30] = True
    half = np.where(np.arange(60)[:, None] < 20, truth, False).astype(np.float64)
    found = scores([edge_maps.compare(half, [truth])])
    assert found["ODS"] == found["OIS"] == pytest.approx(2 / 3)
    assert found["R50"] == 0.5


def test_edges_too_far_away_do_not_count():
    truth = np.zeros((60, 80), bool)
    truth[10, 10:30] = True
    near, far = np.roll(truth, 1, 0), np.roll(truth, 2, 0)  # 0.0075 of 200 px is 1.5 px
    padded = [np.pad(x, ((0, 60), (0, 80))) for x in (truth, near, far)]
    assert scores([edge_maps.compare(padded[1].astype(float), [padded[0]])])["ODS"] == 1
    assert scores([edge_maps.compare(padded[2].astype(float), [padded[0]])])["ODS"] == 0


def draw_people(root: Path) -> Path:
    """Draw images large enough for edges, and outlines by two annotators."""

    def maps(own):
        large = np.kron(label_map(own), np.ones((4, 4), np.uint8))
        return [large, large]

    draw_folder(root, "images", "segments", maps)
    for path in (root / "images").iterdir():
        with Image.open(path) as image:
            enlarged = image.resize((320, 240))
        enlarged.save(path)
    return root


def test_edges_killed_and_started_again(tmp_path):
    check_killed("edges", draw_people(tmp_path / "data"), tmp_path)


def test_edges_end_to_end(tmp_path, monkeypatch, small):
    """Masks that are the truth: their edges lie on the people's outlines, within a pixel."""
    root = draw_people(tmp_path / "d")
    predictor = Knowing(open_dataset(root), echo)
    monkeypatch.setattr(cli, "load_models", lambda _: [small])
    monkeypatch.setattr(samjax, "SamPredictor", lambda _: predictor)
    summary = cli.main(
        ["edges", "--data", str(root), "--out", str(tmp_path / "out"), "--pictures", "0"]
    )
    assert summary["scores"]["ODS"] > 0.95
    assert summary["scores"]["R50"] > 0.95
    assert summary["images"] == 3

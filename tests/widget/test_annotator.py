"""Test that scripts and the page drive the same code, with the predictor's masks."""

from __future__ import annotations

import io
import json
import math
import threading
from base64 import b64decode

import numpy as np
import pytest
from PIL import Image

import samjax
from samjax import annotations
from samjax.errors import AnnotationError, ImageError, PromptError, SamjaxError
from samjax.widget import paint
from samjax.widget.row_runs import runs_to_mask
from tests.support.models import GOLDEN, drawn_image


class Wire:
    """The other end of the widget: what a page would send and receive."""

    def __init__(self, annotator: samjax.Annotator):
        self.annotator, self.got = annotator, []
        self.arrived = threading.Condition()
        annotator.send = self._receive
        self.number = 0

    def _receive(self, content: dict, buffers: list | None = None) -> None:
        json.dumps(content, allow_nan=False)  # as it travels
        with self.arrived:
            self.got.append((content, [bytes(b) for b in buffers or []]))
            self.arrived.notify_all()

    def send(self, kind: str, **arguments) -> dict:
        """Send a message and return the update that answers it."""
        self.number += 1
        request = f"test-{self.number}"
        self.annotator._on_message(
            self.annotator, {"kind": kind, "request": request, **arguments}, []
        )
        return self.wait_for(lambda c: c.get("request") == request)

    def wait_for(self, wanted) -> dict:
        """The first message that fits."""

        def found():
            return next((content for content, _ in self.got if wanted(content)), None)

        with self.arrived:
            assert self.arrived.wait_for(lambda: found() is not None, timeout=60)
            return found()

    def buffers(self, content: dict) -> list[np.ndarray]:
        held = next(b for c, b in self.got if c is content)
        return [np.frombuffer(b, np.uint32) for b in held]


@pytest.fixture
def images() -> list[np.ndarray]:
    return [drawn_image(48, 70, seed=1), drawn_image(61, 40, seed=2)]


@pytest.fixture
def annotator(small, images) -> samjax.Annotator:
    return samjax.Annotator(small, images, labels=("disc", "bar"))


@pytest.fixture
def wire(annotator) -> Wire:
    annotator.wait()
    wire = Wire(annotator)
    wire.send("hello")
    return wire


def _again(predictor: samjax.SamPredictor, entry: dict, size: tuple[int, int]) -> np.ndarray:
    """The mask of an entry of ``prompts``, as the documentation says to make it."""
    mask = np.zeros(size, bool)
    if entry["predict"] is not None:
        predictor.mask_threshold = entry["mask_threshold"]
        mask = predictor.predict(**entry["predict"]).masks[entry["candidate"]]
    return paint(mask, entry["strokes"])


def _assert_reproducible(annotator: samjax.Annotator, sam, image: np.ndarray) -> None:
    predictor = samjax.SamPredictor(sam)
    predictor.set_image(image)
    prompts, masks = annotator.prompts, annotator.masks
    assert len(prompts) == len(masks) == len(annotator.scores) > 0
    for entry, mask in zip(prompts, masks, strict=True):
        np.testing.assert_array_equal(mask, _again(predictor, entry, image.shape[:2]))


# ------------------------------------------------------------------------- from Python


def test_masks_are_the_predictors(annotator, small, images):
    annotator.click(30, 20)
    annotator.click(10, 40, 0)
    annotator.commit()
    annotator.box(60, 10, 35, 44)
    annotator.choose(2)
    annotator.click(50, 30)
    annotator.mask_threshold = 0.5
    annotator.label("bar")
    annotator.new_object()
    annotator.mask_threshold = 0.0
    annotator.multimask = False
    annotator.click(5, 5)
    annotator.brush([(20, 20), (30, 25)], 4)
    annotator.brush([(25, 22)], 2, add=False)
    annotator.new_object()
    annotator.brush([(60, 40)], 3)
    _assert_reproducible(annotator, small, images[0])
    assert annotator.labels == ["disc", "bar", "bar", "bar"]
    assert annotator.object_count == 4
    assert [e["mask_threshold"] for e in annotator.prompts] == [0, 0.5, 0, 0]
    assert math.isnan(annotator.scores[3])
    assert annotator.masks[3].sum() == 29  # a disc of radius 3
    assert annotator.prompts[1]["candidate"] in range(3)


def test_candidates_are_ranked_and_a_choice_holds(annotator, small, images):
    annotator.click(30, 20)
    predictor = samjax.SamPredictor(small)
    predictor.set_image(images[0])
    scores = predictor.predict([[30, 20]], [1]).scores
    order = np.argsort(-scores)
    for rank in (0, 1, 2):
        annotator.choose(rank)
        assert annotator.scores == [pytest.approx(float(scores[order[rank]]))]
    annotator.click(12, 8)
    assert annotator.prompts[0]["candidate"] == order[2]
    with pytest.raises(PromptError, match="no candidate 3"):
        annotator.choose(3)


def test_undo_goes_through_everything(annotator):
    annotator.click(30, 20)
    first = annotator.masks[0]
    annotator.click(10, 10, 0)
    annotator.commit()
    annotator.delete(1)
    assert annotator.masks == []
    for _ in range(3):
        annotator.undo()
    np.testing.assert_array_equal(annotator.masks[0], first)
    annotator.redo()
    annotator.undo()
    annotator.undo()
    assert annotator.masks == []
    with pytest.raises(PromptError, match="nothing to undo"):
        annotator.undo()


def test_images_keep_their_objects(annotator, small, images):
    annotator.label("bar")
    annotator.click(30, 20)
    annotator.next_image()
    assert annotator.masks == []
    annotator.click(20, 30)
    assert annotator.labels == ["bar"]  # the class of the next object travels along
    _assert_reproducible(annotator, small, images[1])
    assert annotator.masks[0].shape == (61, 40)
    annotator.previous_image()
    assert annotator.masks[0].shape == (48, 70)
    with pytest.raises(PromptError, match="no image -1: this is one of 0 to 1"):
        annotator.previous_image()


def test_errors_leave_everything_as_it_was(annotator):
    annotator.click(30, 20)
    before = annotator.prompts
    for wrong, text in (
        (lambda: annotator.click(70, 20), "outside of the image: x is 0 to 69"),
        (lambda: annotator.click(float("nan"), 2), "x is nan: pass a finite number"),
        (lambda: annotator.click(3, 2, 7), "label of a click"),
        (lambda: annotator.select(9), "no object 9"),
        (lambda: annotator.label(""), "label '' must be"),
        (lambda: annotator.pick(0), "call automatic"),
        (lambda: annotator.on("noise", print), "no event 'noise': use one of mask"),
    ):
        with pytest.raises(SamjaxError, match=text) as caught:
            wrong()
        assert "\n" not in str(caught.value)
    assert annotator.prompts == before


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"images": []}, "images is empty"),
        ({"labels": []}, "labels is"),
        ({"labels": "dog"}, "labels is 'dog'"),
        ({"automatic": {"crop_n_layers": 1}}, "automatic has .'crop_n_layers'.: use points"),
    ],
)
def test_wrong_arguments(small, images, arguments, text):
    with pytest.raises(SamjaxError, match=text):
        samjax.Annotator(small, **{"images": images, **arguments})


def test_events_and_traits(annotator):
    heard = []
    ends = [
        annotator.on(name, lambda a, name=name: heard.append((name, a.object_count)))
        for name in ("mask", "commit", "image", "export")
    ]
    annotator.observe(lambda change: heard.append(change["new"]), "image_index")
    annotator.click(30, 20)
    annotator.commit()
    annotator.next_image()
    assert heard == [("mask", 1), ("commit", 1), 1, ("image", 0)]
    for end in ends:
        end()
    annotator.click(3, 4)
    assert len(heard) == 4


def test_automatic_masks_become_objects(small, images):
    annotator = samjax.Annotator(
        small,
        images[0],
        automatic={"points_per_side": 4, "pred_iou_thresh": -1e9, "stability_score_thresh": 0.0},
    )
    records = annotator.automatic()
    assert records
    assert annotator.automatic() == records
    annotator.pick(len(records) - 1)
    _assert_reproducible(annotator, small, images[0])
    record = records[-1]
    expected = samjax.annotations.records.convert_records([record], "binary_mask")
    assert (annotator.masks[0] == expected[0]["segmentation"]).mean() > 0.999
    assert annotator.scores[0] == pytest.approx(record["predicted_iou"], abs=1e-4)
    assert annotator.prompts[0]["committed"]
    with pytest.raises(PromptError, match="no automatic mask"):
        annotator.pick(len(records))


def test_a_large_photograph_is_shown_small_and_kept_large(small):
    image = np.tile(drawn_image(60, 90), (40, 50, 1))  # 2400 x 4500
    annotator = samjax.Annotator(small, image)
    annotator.wait()
    wire = Wire(annotator)
    wire.send("hello")
    told = wire.wait_for(lambda c: c["kind"] == "image")
    assert (told["width"], told["height"], told["display"]) == (4500, 2400, [2048, 1092])
    update = wire.send("click", x=2000, y=1200, label=1)
    shown = runs_to_mask(wire.buffers(update)[0], (1092, 2048))
    _assert_reproducible(annotator, small, image)
    full = np.asarray(
        Image.fromarray(annotator.masks[0]).resize((2048, 1092), Image.Resampling.NEAREST)
    )
    assert (full != shown).mean() < 0.01


# ------------------------------------------------------------------------- saved state


def test_a_new_annotator_goes_on_where_the_last_one_stopped(small, images, tmp_path):
    first = samjax.Annotator(small, images, path=tmp_path, labels=("disc", "bar"))
    first.click(30, 20)
    first.choose(1)
    first.commit()
    first.label("bar")
    first.click(50, 30)
    first.next_image()
    first.box(5, 5, 30, 50)
    first.commit()
    second = samjax.Annotator(small, images, path=tmp_path, labels=("disc", "bar"))
    assert second.labels == ["disc", "bar"]
    assert second.prompts[0]["committed"]
    assert not second.prompts[1]["committed"]
    _assert_reproducible(second, small, images[0])
    second.next_image()
    np.testing.assert_array_equal(second.masks[0], first.masks[0])
    assert second.export("npz", tmp_path / "out").exists()
    assert sorted(p.name for p in tmp_path.glob("*.json")) == [
        "image_0000.png.json",
        "image_0001.png.json",
    ]


def test_restored_masks_of_other_weights_stay_until_they_are_changed(small, images, tmp_path):
    first = samjax.Annotator(small, images[0], path=tmp_path)
    first.click(30, 20)
    first.commit()
    other = samjax.load(GOLDEN)
    second = samjax.Annotator(other, images[0], path=tmp_path)
    np.testing.assert_array_equal(second.masks[0], first.masks[0])
    second.select(1)
    np.testing.assert_array_equal(second.masks[0], first.masks[0])
    second.click(40, 30)
    _assert_reproducible(second, other, images[0])


def test_files_that_cannot_be_used_are_set_aside(small, images, tmp_path):
    first = samjax.Annotator(small, images[0], path=tmp_path)
    first.click(30, 20)
    first.commit()
    other = samjax.Annotator(small, images[1], path=tmp_path)  # another image of that name
    assert other.masks == []
    assert "the image has changed since; it is kept as" in other.status
    (tmp_path / "image_0000.png.json").write_text("{")
    damaged = samjax.Annotator(small, images[0], path=tmp_path)
    assert damaged.masks == []
    damaged.click(3, 4)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == [
        ".classes",
        "image_0000.png.json",
        "image_0000.png.json.damaged",
        "image_0000.png.json.other-image",
    ]


def test_an_unusable_folder(small, images, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AnnotationError, match="cannot be made"):
        samjax.Annotator(small, images, path=tmp_path / "file")


# ------------------------------------------------------------------------- export


def test_exports_hold_the_same_masks(annotator, tmp_path):
    annotator.click(30, 20)
    annotator.label("bar")
    annotator.commit()
    annotator.brush([(50, 30)], 6)
    masks = {"image_0000.png": annotator.masks}
    annotator.next_image()
    annotator.box(5, 5, 30, 50)
    masks["image_0001.png"] = annotator.masks
    coco = annotations.read_coco(annotator.export("coco", tmp_path / "a.json"), "binary_mask")
    assert [image.file_name for image in coco] == list(masks)
    assert [r["label"] for r in coco[0].records] == ["bar", "bar"]
    for image in coco:
        for record, mask in zip(image.records, masks[image.file_name], strict=True):
            np.testing.assert_array_equal(record["segmentation"], mask)
    folder = annotator.export("npz", tmp_path / "npz")
    for name, wanted in masks.items():
        _, records = annotations.read_npz((folder / name).with_suffix(".npz"))
        for record, mask in zip(records, wanted, strict=True):
            np.testing.assert_array_equal(record["segmentation"], mask)
    assert "predicted_iou" not in annotations.read_npz(folder / "image_0000.npz")[1][1]
    labels = annotations.read_label_png(annotator.export("png", tmp_path / "p") / "image_0001.png")
    np.testing.assert_array_equal(labels > 0, masks["image_0001.png"][0])
    annotator.export("yolo", tmp_path / "yolo")
    sizes = {"image_0000.png": (48, 70), "image_0001.png": (61, 40)}
    yolo = annotations.read_yolo(tmp_path / "yolo", sizes, "binary_mask")
    np.testing.assert_array_equal(yolo[0].records[1]["segmentation"], masks["image_0000.png"][1])
    with pytest.raises(AnnotationError, match="export 'csv': use one of coco"):
        annotator.export("csv", tmp_path)
    assert annotator.records[0]["label"] == "bar"


def test_images_that_were_never_opened_are_not_exported(annotator, tmp_path):
    annotator.click(30, 20)
    written = annotator.export("coco", tmp_path)
    assert written == tmp_path / "annotations.json"
    assert len(annotations.read_coco(written)) == 1


# ------------------------------------------------------------------------- the page


def test_the_page_gets_the_picture_then_masks(wire, annotator):
    picture = wire.wait_for(lambda c: c["kind"] == "image")
    assert (picture["width"], picture["height"], picture["display"]) == (70, 48, [70, 48])
    update = wire.send("click", x=30, y=20, label=1)
    assert update["image"]["phase"] == "ready"
    assert update["replies"] == 1
    assert update["active"] == 1
    assert len(update["candidates"]["scores"]) == 3
    assert update["candidates"]["scores"] == sorted(update["candidates"]["scores"], reverse=True)
    runs, *thumbnails = wire.buffers(update)
    np.testing.assert_array_equal(runs_to_mask(runs, (48, 70)), annotator.masks[0])
    assert len(thumbnails) == 3
    chosen = wire.send("choose", index=1)
    assert (chosen["candidates"]["rank"], chosen["replies"]) == (1, 2)
    assert len(wire.buffers(chosen)) == 1  # the thumbnails are there already
    labelled = wire.send("label", name="bar")
    assert (labelled["masks"], labelled["replies"]) == ([], 2)
    gone = wire.send("undo")
    gone = wire.send("undo")
    gone = wire.send("undo")
    assert (gone["objects"], gone["replies"], gone["redo"]) == ([], 4, True)


def test_a_page_that_opens_later_gets_everything_again(wire):
    wire.send("click", x=30, y=20, label=1)
    wire.got.clear()
    update = wire.send("hello")
    assert {c["kind"] for c, _ in wire.got} == {"image", "update"}
    assert len(wire.buffers(update)) == 4


def test_wrong_messages_are_answered_and_change_nothing(wire, annotator, caplog):
    annotator._on_message(annotator, "garbage", [])
    annotator._on_message(annotator, {"kind": "click", "x": "a"}, [])
    for kind, arguments, text in (
        ("commit", {}, "no object is active"),
        ("redo", {}, "nothing to redo"),
        ("click", {"x": 700, "y": 2, "label": 1}, "outside of the image"),
        ("go", {"index": 7}, "no image 7"),
        ("_save", {}, "unknown message"),
    ):
        update = wire.send(kind, **arguments)
        assert update["status"]["level"] == "error"
        assert text in update["status"]["text"]
    assert annotator.prompts == []
    assert not caplog.records
    # A bug of ours: the page hears of it, the kernel goes on.
    annotator._controller.project.put = None
    update = wire.send("click", x=3, y=2, label=1)
    assert "TypeError" in update["status"]["text"]
    assert "a message of the page failed" in caplog.text


def test_clicks_while_the_image_is_encoded_are_kept(small, images, monkeypatch):
    entered, release = threading.Event(), threading.Event()
    real = samjax.SamPredictor.encode_pixels

    def slow(self, *arguments, **keywords):
        entered.set()
        assert release.wait(60)
        return real(self, *arguments, **keywords)

    monkeypatch.setattr(samjax.SamPredictor, "encode_pixels", slow)
    annotator = samjax.Annotator(small, images[0])
    wire = Wire(annotator)
    assert entered.wait(60)
    wire.send("hello")
    first = wire.send("click", x=30, y=20, label=1)
    second = wire.send("click", x=10, y=40, label=0)
    assert [u["image"]["phase"] for u in (first, second)] == ["encoding"] * 2
    assert second["masks"] == []
    assert len(second["objects"][0]["points"]) == 2
    release.set()
    update = wire.wait_for(lambda c: c["kind"] == "update" and c["masks"])
    assert update["request"] is None
    np.testing.assert_array_equal(
        runs_to_mask(wire.buffers(update)[0], (48, 70)), annotator.masks[0]
    )
    _assert_reproducible(annotator, small, images[0])


def test_an_image_that_cannot_be_read(small, images, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    annotator = samjax.Annotator(small, [broken, images[1]])
    with pytest.raises(ImageError, match="not an image"):
        annotator.wait()
    wire = Wire(annotator)
    update = wire.send("hello")
    wire.wait_for(lambda c: c.get("image", {}).get("phase") == "error")
    assert annotator.masks == []
    with pytest.raises(ImageError, match="not an image"):
        annotator.click(1, 1)
    update = wire.send("click", x=1, y=1, label=1)
    assert "broken.png: is not an image" in update["status"]["text"]
    data, _ = annotator._repr_mimebundle_()
    assert "image/png" not in data
    wire.send("next_image")
    annotator.click(3, 4)
    assert len(annotator.masks) == 1
    path = annotator.export("coco", tmp_path / "a.json")
    assert [image.file_name for image in annotations.read_coco(path)] == ["image_0001.png"]


def test_hover_shows_what_a_click_would_give(wire, annotator):
    answer = wire.send("hover", x=30, y=20)
    mask = runs_to_mask(wire.buffers(answer)[0], (48, 70))
    assert annotator.prompts == []
    annotator.click(30, 20)
    np.testing.assert_array_equal(mask, annotator.masks[0])
    assert answer["score"] == pytest.approx(annotator.scores[0], abs=1e-4)


def test_200_rapid_hovers(wire, annotator):
    for i in range(200):
        annotator._on_message(
            annotator, {"kind": "hover", "request": f"h{i}", "x": i % 60, "y": 20}, []
        )
    wire.wait_for(lambda c: c.get("request") == "h199")
    answered = sum(c["kind"] == "hover" for c, _ in wire.got)
    assert answered + annotator._link.previews.dropped == 200
    assert answered < 100


def test_automatic_masks_for_the_page(small, images):
    annotator = samjax.Annotator(
        small,
        images[0],
        automatic={"points_per_side": 4, "pred_iou_thresh": -1e9, "stability_score_thresh": 0.0},
    )
    annotator.wait()
    wire = Wire(annotator)
    wire.send("hello")
    assert wire.send("automatic")["automatic"] is not None
    told = wire.wait_for(lambda c: c["kind"] == "automatic_masks")
    (runs,) = wire.buffers(told)
    assert len(told["runs"]) == len(told["areas"]) == len(told["scores"])
    assert runs.sum() == 48 * 70 * len(told["runs"])
    first = runs_to_mask(runs[: told["runs"][0]], tuple(told["size"]))
    assert first.sum() == told["areas"][0]
    update = wire.send("pick", index=0)
    assert [each["committed"] for each in update["objects"]] == [True]


def test_compilation_is_over_when_the_image_is_ready(annotator, compilations):
    annotator.wait()
    compilations.reset()
    annotator.click(30, 20)
    annotator.click(10, 40, 0)
    annotator.box(5, 5, 60, 40)
    annotator.multimask = False
    assert annotator.masks[0].shape == (48, 70)
    assert compilations.count == 0


def test_two_annotators_do_not_mix(small, images):
    first, second = (samjax.Annotator(small, image) for image in images)
    first.click(30, 20)
    second.click(30, 20)
    _assert_reproducible(first, small, images[0])
    _assert_reproducible(second, small, images[1])


def test_a_saved_notebook_shows_a_picture(annotator):
    plain = np.asarray(annotator.snapshot(), int)
    annotator.brush([(35, 24)], 12)
    data, _ = annotator._repr_mimebundle_()
    assert data["text/plain"] == "Annotator(2 images; 'image_0000.png' with 1 object)"
    shown = np.asarray(Image.open(io.BytesIO(b64decode(data["image/png"]))), int)
    painted = np.asarray(annotator.snapshot(), int)
    assert np.array_equal(shown[:48, :70], painted)
    # Below it stands why it is a picture, in lines that a narrow image does not cut.
    assert shown.shape[1] == 320
    assert (shown[48:] < 100).all(-1).sum() > 300
    assert (shown[:, -4:] == 255).all()
    assert painted.shape == (48, 70, 3)
    changed = np.abs(painted - plain).max(-1) > 10
    mask = annotator.masks[0]
    assert changed[mask].mean() > 0.9
    assert changed[~mask].mean() < 0.2

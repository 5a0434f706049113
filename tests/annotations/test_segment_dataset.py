"""Boxes of a data set become masks: ids are kept, a killed run goes on, nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import samjax
from samjax.annotations import read_coco, write_coco
from samjax.annotations import segment_dataset as module
from samjax.cli import main
from samjax.engine import spec
from samjax.errors import AnnotationError
from samjax.masks.rle import to_mask

SIZE = (64, 96)


@pytest.fixture(scope="module")
def sam() -> samjax.Segmenter:
    return samjax.load()


def save_picture(path: Path, centre: tuple[int, int]) -> None:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    image = np.stack([x * 2, y * 3, 255 - x * 2], axis=2).clip(0, 255)
    image[(x - centre[0]) ** 2 + (y - centre[1]) ** 2 < 200] = (20, 30, 10)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.astype(np.uint8)).save(path)


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    """Three images with a disc each; boxes, keypoints, a crowd, faults, a missing image."""
    names = ("a.png", "sub/b.png", "c.png", "gone.png")
    centres = ((30, 20), (60, 40), (45, 30))
    for name, centre in zip(names, centres, strict=False):
        save_picture(tmp_path / "images" / name, centre)
    entries = [
        {"id": 70 + i, "file_name": n, "height": SIZE[0], "width": SIZE[1]}
        for i, n in enumerate(names)
    ]
    annotations = [
        {"image_id": 70, "category_id": 9, "bbox": [15, 5, 30, 30], "attributes": {"worn": True}},
        {"image_id": 70, "category_id": 3, "bbox": [15, 5, 30, 30], "iscrowd": 1, "track": 5},
        {"image_id": 71, "category_id": 9, "bbox": [], "keypoints": [60, 40, 2]},
        {"image_id": 71, "category_id": 9, "bbox": [200, 5, 30, 30]},
        {"image_id": 72, "category_id": 3, "bbox": [60, 45, -30, -30]},
        {"image_id": 73, "category_id": 3, "bbox": [1, 2, 30, 30]},
    ]
    data = {
        "images": entries,
        "categories": [
            {"id": 9, "name": "disc"},
            {"id": 3, "name": "ball"},
            {"id": 1, "name": "x"},
        ],
        "annotations": [{"id": 100 - i, **each} for i, each in enumerate(annotations)],
    }
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(data))
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_ids_crowds_and_attributes_are_kept_and_nothing_is_lost(boxes, tmp_path, sam):
    report = samjax.segment_dataset(boxes, tmp_path / "images", tmp_path / "out", sam=sam)
    found = read_coco(report.path, "binary_mask")
    assert found.categories == {"disc": 9, "ball": 3, "x": 1}
    assert [(i.file_name, i.id) for i in found] == [
        *(("a.png", 70), ("sub/b.png", 71), ("c.png", 72), ("gone.png", 73))
    ]
    records = [r for image in found for r in image.records]
    assert [(r["id"], r["label"]) for r in records] == [
        *((100, "disc"), (99, "ball"), (98, "disc"), (96, "ball"))
    ]
    assert (records[0]["attributes"], records[1]["iscrowd"]) == ({"worn": True}, 1)
    assert (records[1]["extra"], records[2]["keypoints"]) == ({"track": 5}, [60, 40, 2])
    assert all(0 <= r["stability_score"] <= 1 and 0 < r["predicted_iou"] <= 1 for r in records)
    assert [(p.kind, p.object) for p in report.problems] == [
        ("box: outside the image", 97),
        ("box: reversed corners, mended", 96),
        ("image: missing", None),
    ]
    assert (report.images, report.masks, report.earlier, report.complete) == (3, 4, 0, False)
    problems = json.loads((tmp_path / "out/problems.json").read_text())
    assert [p["kind"] for p in problems] == [p.kind for p in report.problems]


def test_masks_are_those_of_the_predictor_and_stability_is_the_official_one(boxes, tmp_path, sam):
    samjax.segment_dataset(boxes, tmp_path / "images", tmp_path / "out", sam=sam)
    first, _ = read_coco(tmp_path / "out/annotations.json")[0].records
    predictor = samjax.SamPredictor(sam)
    predictor.set_image(tmp_path / "images/a.png")
    given = np.array([[15, 5, 45, 35], [15, 5, 45, 35]], np.float32)
    expected = predictor.predict_many(boxes=given, multimask_output=False)
    np.testing.assert_array_equal(to_mask(first["segmentation"]), expected.masks[0, 0])
    assert first["predicted_iou"] == pytest.approx(expected.scores[0, 0], abs=1e-6)
    logits = predictor.predict_many(boxes=given, multimask_output=False, return_logits=True).masks
    stability = (logits[0, 0] > 1).sum() / (logits[0, 0] > -1).sum()
    assert first["stability_score"] == pytest.approx(stability, abs=1e-6)
    # Points alone: the best of three candidates.
    (pointed,) = read_coco(tmp_path / "out/annotations.json")[1].records
    predictor.set_image(tmp_path / "images/sub/b.png")
    masks, scores, _ = predictor.predict(np.array([[60, 40]]), np.array([1]))
    np.testing.assert_array_equal(to_mask(pointed["segmentation"]), masks[scores.argmax()])


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(boxes, tmp_path, sam, monkeypatch):
    samjax.segment_dataset(boxes, tmp_path / "images", tmp_path / "whole", sam=sam)
    done = []

    def dying(model, path, image, normalised):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(image.file_name)
        return original(model, path, image, normalised)

    original = module.segment_image
    monkeypatch.setattr(module, "segment_image", dying)
    with pytest.raises(KeyboardInterrupt):
        samjax.segment_dataset(boxes, tmp_path / "images", tmp_path / "out", sam=sam)
    monkeypatch.setattr(module, "segment_image", original)
    assert not (tmp_path / "out/annotations.json").exists()
    (tmp_path / "out/records/a.png.json").write_text("{damaged")  # is made again
    report = samjax.segment_dataset(boxes, tmp_path / "images", tmp_path / "out", sam=sam)
    assert report.earlier == 1
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    # Another image, and another box, are segmented again; the others are not.
    save_picture(tmp_path / "images/c.png", (20, 20))
    boxes.write_text(boxes.read_text().replace("[15, 5, 30, 30]", "[15, 5, 31, 30]", 1))
    report = samjax.segment_dataset(boxes, tmp_path / "images", tmp_path / "out", sam=sam)
    assert report.earlier == 1


def test_shards_write_the_bytes_of_one_run(boxes, tmp_path, sam):
    images = tmp_path / "images"
    (images / "c.png").write_bytes(b"no image")
    whole = samjax.segment_dataset(boxes, images, tmp_path / "whole", sam=sam)
    assert whole.counts["image: cannot be used"] == 1
    last = samjax.segment_dataset(boxes, images, tmp_path / "out", sam=sam, shard=(3, 3))
    assert not last.joined
    assert sorted(files(tmp_path / "out")) == ["records/c.png.json", "segment_dataset.json"]
    assert not samjax.segment_dataset(boxes, images, tmp_path / "out", sam=sam, shard=(1, 3)).joined
    report = samjax.segment_dataset(boxes, images, tmp_path / "out", sam=sam, shard=(2, 3))
    assert report.joined
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    assert (report.masks, report.problems) == (whole.masks, whole.problems)
    with pytest.raises(AnnotationError, match=r"shard is \(4, 3\)"):
        samjax.segment_dataset(boxes, images, tmp_path / "out", sam=sam, shard=(4, 3))


def test_low_scores_are_listed_the_lowest_first(boxes, tmp_path, sam):
    def review(**options) -> list[dict]:
        options |= {"sam": sam}
        return samjax.segment_dataset(boxes, tmp_path / "images", tmp_path / "o", **options).review

    every = review(review_below=1)
    lowest = [min(each["predicted_iou"], each["stability_score"]) for each in every]
    assert len(every) == 4
    assert lowest == sorted(lowest)
    assert json.loads((tmp_path / "o/review.json").read_text()) == every
    assert review(review_below=0) == []
    own = sam.automatic_thresholds
    assert review() == [
        each
        for each in every
        if each["predicted_iou"] < own.pred_iou_thresh
        or each["stability_score"] < own.stability_score_thresh
    ]


def test_other_results_and_wrong_images_are_refused(boxes, tmp_path, sam):
    def run(**options):
        options = {"sam": sam, **options}
        return samjax.segment_dataset(boxes, tmp_path / "images", tmp_path / "out", **options)

    (tmp_path / "out").mkdir()
    (tmp_path / "out/annotations.json").write_text("mine")
    with pytest.raises(AnnotationError, match="is not of an earlier run; choose another folder"):
        run()
    assert (tmp_path / "out/annotations.json").read_text() == "mine"
    run(overwrite=True)
    with pytest.raises(AnnotationError, match="made with other settings"):
        run(normalised=True)
    with pytest.raises(AnnotationError, match="pass a score from 0 to 1"):
        run(review_below=2)
    Image.new("RGB", (9, 9)).save(tmp_path / "images/a.png")
    (tmp_path / "images/c.png").write_bytes(b"no picture")
    report = run()
    assert [p.image for p in report.problems if p.kind == "image: cannot be used"] == [
        *("a.png", "c.png")
    ]
    before = boxes.read_bytes()
    target = tmp_path / "annotations.json"
    boxes.rename(target)
    with pytest.raises(AnnotationError, match="is not of an earlier run"):
        samjax.segment_dataset(target, tmp_path / "images", tmp_path, sam=sam)
    with pytest.raises(AnnotationError, match="is an input and would be replaced"):
        samjax.segment_dataset(target, tmp_path / "images", tmp_path, sam=sam, overwrite=True)
    assert target.read_bytes() == before


def test_the_command(boxes, sam, monkeypatch, capsys):
    monkeypatch.chdir(boxes.parent)
    monkeypatch.setattr(spec, "load", lambda *_, **__: sam)
    arguments = ["segment-dataset", "boxes.json", "--images", "images", "--out", "out"]
    assert main(arguments) == 2  # objects were left out
    out, err = capsys.readouterr()
    assert out.startswith("4 masks in 3 images, ")
    assert out.endswith(" to review -> out/annotations.json\n")
    assert err.splitlines() == [
        "samjax: 1 x box: outside the image: sub/b.png #97 [200, 5, 230, 35]",
        "samjax: 1 x box: reversed corners, mended: c.png #96 [60, 45, 30, 15]",
        "samjax: 1 x image: missing: gone.png 1 object left out",
    ]
    assert main(arguments) == 2
    assert "4 masks in 3 images (3 done before)" in capsys.readouterr().out
    parts = ["segment-dataset", "boxes.json", "--images", "images", "--out", "parts", "--shard"]
    assert main([*parts, "1/2"]) == 0
    assert "part 1/2 is done" in capsys.readouterr().out
    assert main([*parts, "2/2"]) == 2
    assert "4 masks in 3 images" in capsys.readouterr().out
    assert files(Path("parts")) == files(Path("out"))
    assert main([*parts, "3/2"]) == 2
    assert "--shard '3/2': give I/N" in capsys.readouterr().err
    Path("good.csv").write_text("image,x0,y0,x1,y1,label\na.png,15,5,45,35,disc\n")
    assert main(["segment-dataset", "good.csv", "--images", "images", "--out", "new"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["segment-dataset", "absent.csv", "--images", "images", "--out", "new"]) == 2
    assert "absent.csv: no such file or folder" in capsys.readouterr().err


def test_other_boxes_do_not_replace_the_masks_of_these(boxes, tmp_path, sam):
    def run(path, **options):
        return samjax.segment_dataset(
            path, tmp_path / "images", tmp_path / "out", sam=sam, **options
        )

    run(boxes)
    before = files(tmp_path / "out")
    other = tmp_path / "other.csv"
    other.write_text("image,x0,y0,x1,y1,label\na.png,15,5,45,35,disc\n")
    with pytest.raises(AnnotationError, match=r"holds masks of the boxes of .*boxes.json; choose"):
        run(other)
    assert files(tmp_path / "out") == before
    moved = boxes.rename(tmp_path / "moved.json")
    assert run(moved).earlier == 3
    moved.write_text(moved.read_text().replace("[15, 5, 30, 30]", "[15, 5, 31, 30]", 1))
    assert run(moved).earlier == 2  # changed in its place
    assert run(other, overwrite=True).masks == 1


def test_check_finds_the_images_of_a_run(boxes, tmp_path, sam):
    report = samjax.segment_dataset(boxes, tmp_path / "images", tmp_path / "deep/out", sam=sam)
    for path in (report.path, report.path.parent):
        found = samjax.check_dataset(path)
        assert found.image_folder.resolve() == tmp_path / "images"
        assert found.counts["no image"] == 1  # gone.png


def test_what_a_coco_file_says_besides_and_scores_are_kept(boxes, tmp_path, sam):
    """The detector's score is part of the annotator's doubt."""
    data = json.loads(boxes.read_text())
    data["info"] = {"year": 2017, "contributor": "me"}
    data["licenses"] = [{"id": 4, "name": "CC BY"}]
    data["videos"] = [7]
    image = {"license": 4, "coco_url": "of coco", "flickr_url": "f", "date_captured": "2013"}
    data["images"][0] |= image
    data["categories"][0] |= {"supercategory": "round", "skeleton": [[1, 2]]}
    for annotation, score in zip(data["annotations"], (0.25, None, "high", 1), strict=False):
        annotation["score"] = score
    boxes.write_text(json.dumps(data))
    report = samjax.segment_dataset(boxes, tmp_path / "images", tmp_path / "out", sam=sam)
    again = tmp_path / "again.json"
    write_coco(again, read_coco(report.path))
    for path in (report.path, again):
        found = json.loads(path.read_text())
        assert {key: found[key] for key in ("info", "licenses", "videos")} == {
            key: data[key] for key in ("info", "licenses", "videos")
        }
        assert found["images"][0] == data["images"][0]
        assert found["categories"] == [{"supercategory": "", **c} for c in data["categories"]]
        scores = {a["id"]: a.get("score") for a in found["annotations"]}
        assert scores == {100: 0.25, 99: None, 98: None, 96: None}
    kind = "score: no number, mended by leaving it out"
    assert [p.object for p in report.problems if p.kind == kind] == [98]


@pytest.mark.usefixtures("boxes")
@pytest.mark.parametrize("column", ["score", "Confidence", "conf"])
def test_scores_of_tables_are_kept(tmp_path, sam, column):
    table = tmp_path / "boxes.csv"
    rows = ["15,5,45,35,0.5", "15,5,40,35,", "15,5,40,30,much"]
    table.write_text(f"image,x0,y0,x1,y1,{column}\n" + "".join(f"a.png,{row}\n" for row in rows))
    report = samjax.segment_dataset(
        table, tmp_path / "images", tmp_path / "out", sam=sam, review_below=1
    )
    records = read_coco(report.path)[0].records
    assert [record.get("score") for record in records] == [0.5, None, None]
    assert [each.get("score") for each in report.review] == [
        records[each["id"] - 1].get("score") for each in report.review
    ]
    assert report.counts == {"score: no number, mended by leaving it out": 1}
    assert report.complete


@pytest.fixture
def results(boxes, tmp_path) -> Path:
    """What a detector found in the images of ``boxes``, and those without annotations."""
    data = json.loads(boxes.read_text())
    listed = [
        {key: each[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.5}
        for each in data.pop("annotations")
        if each["bbox"]
    ]
    boxes.write_text(json.dumps(data))
    path = tmp_path / "results.json"
    path.write_text(json.dumps(listed))
    return path


def test_a_detectors_list_of_results_with_the_file_of_its_images(
    boxes, results, tmp_path, sam, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(spec, "load", lambda *_, **__: sam)
    command = ["segment-dataset", "results.json", "--images", "images", "--out", "out"]
    assert main([*command, "--images-json", "boxes.json"]) == 2  # objects were left out
    found = read_coco("out/annotations.json")
    assert found.categories == {"disc": 9, "ball": 3, "x": 1}
    records = [r for image in found for r in image.records]
    assert [(r["id"], r["label"], r["score"]) for r in records] == [
        *((1, "disc", 0.5), (2, "ball", 0.5), (4, "ball", 0.5))
    ]
    capsys.readouterr()
    assert main([*command[:-1], "boxes", "--images-json", "results.json"]) == 2
    assert "results.json: is a list of results" in capsys.readouterr().err
    with pytest.raises(AnnotationError, match=r"boxes.json: is no list of results, as --images-"):
        samjax.segment_dataset(boxes, "images", "boxes", sam=sam, images_json=boxes)
    with pytest.raises(AnnotationError, match=r"absent.json: no such file"):
        samjax.segment_dataset(results, "images", "boxes", sam=sam, images_json="absent.json")


def test_a_list_of_results_alone_says_how_to_join_it(boxes, results, tmp_path, sam, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calls = [
        lambda: samjax.segment_dataset(results, "images", "out", sam=sam),
        lambda: read_coco(results),
        lambda: samjax.check_dataset(results),
        lambda: samjax.Annotator(sam, "images", annotations=results),
    ]
    for call in calls:
        with pytest.raises(AnnotationError, match=r"results.json: is a list of results") as error:
            call()
    message = str(error.value)
    assert "--images-json ANN.json" in message
    lines = message.partition("join the two: ")[2].replace("ANN.json", boxes.name)
    exec(lines.replace("RESULTS.json", results.name), {"json": json, "Path": Path})
    report = samjax.segment_dataset("joined.json", "images", "out", sam=sam)
    assert report.masks == 3


def test_images_that_were_not_read_are_not_counted(tmp_path, sam):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/damaged.png").write_bytes(b"no picture")
    table = tmp_path / "boxes.csv"
    table.write_text("image,x0,y0,x1,y1\nabsent.png,1,2,30,40\ndamaged.png,1,2,30,40\n")
    report = samjax.segment_dataset(table, tmp_path / "images", tmp_path / "out", sam=sam)
    assert (report.images, report.masks, len(report.problems)) == (0, 0, 2)


def test_check_shows_the_objects_to_review(boxes, tmp_path, sam, capsys):
    out = tmp_path / "out"
    report = samjax.segment_dataset(boxes, tmp_path / "images", out, sam=sam, review_below=0.999)
    expected = {(each["image"], each["id"]) for each in report.review}
    assert len(expected) >= 2
    for path in (out, report.path):
        found = samjax.check_dataset(path)
        low = [finding for finding in found.findings if finding.kind == "low score"]
        assert {(finding.image, *finding.objects) for finding in low} == expected
    worst = report.review[0]
    told = f"{worst['image']} #{worst['id']}: predicted_iou {worst['predicted_iou']:.2f}"
    assert main(["check", str(out), "--sheet", str(tmp_path / "sheet")]) == 0
    printed = capsys.readouterr()
    (row,) = (line for line in printed.out.splitlines() if line.startswith("low score"))
    assert row.split()[2] == str(len(expected))
    assert told in row
    assert "low score" in (tmp_path / "sheet/check.html").read_text()
    assert printed.err.startswith("samjax: the worst findings are shown in ")
    (out / "review.json").write_text("[7]")
    with pytest.raises(AnnotationError, match=r"review.json: is not the review.json of samjax"):
        samjax.check_dataset(out)

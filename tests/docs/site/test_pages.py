"""The snippets of the pages run in order, on files like those that a reader has."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import matplotlib.cbook
import nibabel
import numpy as np
import pydicom
import pytest
import rasterio
import tifffile
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from rasterio.transform import Affine
from skimage.data import coins

from tests.support.snippets import run_page, snippets

DOCS = Path(__file__).parents[3] / "docs"
PAGES = sorted(
    path
    for path in DOCS.rglob("*.md")
    if "build" not in path.parts and snippets(path.read_text("utf-8"))
)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with photographs, a micrograph, a volume and a slice."""
    photos = tmp_path / "photos"
    photos.mkdir()
    picture = coins()
    Image.fromarray(picture).save(photos / "coins.png")
    hopper = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    Image.open(hopper).save(photos / "hopper.jpg")
    tifffile.imwrite(tmp_path / "plate.tif", picture.astype(np.uint16) * 200)
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([picture, 255 - picture]))
    channels = np.stack([picture // n for n in range(1, 6)], axis=-1)
    tifffile.imwrite(
        tmp_path / "channels.tif", channels, photometric="minisblack", planarconfig="contig"
    )
    Image.fromarray(np.tile(picture, (2, 2))).save(tmp_path / "mosaic.png")
    colours = np.stack([np.asarray(Image.open(hopper).convert("RGB"))[..., i] for i in range(3)])
    write_scene(tmp_path / "scene.tif", colours[:, :400, :400])
    volume = phantom()
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([0.8, 0.8, 2, 1])), tmp_path / "ct.nii.gz")
    write_dicom(tmp_path / "slice.dcm", volume[:, :, 10].T)
    return tmp_path


def write_scene(path: Path, bands: np.ndarray) -> None:
    """A GeoTIFF of 30 cm pixels, in UTM."""
    with rasterio.open(
        path, "w", driver="GTiff", count=len(bands), height=bands.shape[1], width=bands.shape[2],
        dtype=bands.dtype, transform=Affine(0.3, 0, 5e5, 0, -0.3, 5e6), crs="EPSG:32633",
    ) as file:  # fmt: skip
        file.write(bands)


def phantom() -> np.ndarray:
    """A bright ball in a body of water, in Hounsfield units: 128 x 128 x 20, int16."""
    x, y, z = np.indices((128, 128, 20))
    volume = np.full(x.shape, -1000, np.int16)
    volume[np.hypot(x - 64, y - 64) < 58] = 0
    volume[(x - 64) ** 2 + (y - 64) ** 2 + (3 * (z - 10)) ** 2 < 30**2] = 180
    return volume


def write_dicom(path: Path, units: np.ndarray) -> None:
    """A CT slice of which the pixel values are units + 1024."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID = meta.MediaStorageSOPClassUID
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    data.Rows, data.Columns = units.shape
    data.PhotometricInterpretation, data.SamplesPerPixel = "MONOCHROME2", 1
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    data.WindowCenter, data.WindowWidth = 40, 400
    data.PixelData = (units.astype(np.int32) + 1024).astype(np.uint16).tobytes()
    pydicom.dcmwrite(path, data, enforce_file_format=True)


# These make their photographs, so that a reader can paste them from the top.
MAKING = ("thousand_images", "correct_masks")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_snippets_run(page: Path, desk: Path) -> None:
    if page.stem in MAKING:
        shutil.rmtree(desk / "photos")
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(DOCS.parent), "MPLBACKEND": "agg"}
    said = run_page(page, desk, environment)
    assert "Traceback" not in said


def test_there_are_pages_with_snippets() -> None:
    assert {"start", "thousand_images", "fine_tuned", "microscopy", "medical", "text"} <= {
        page.stem for page in PAGES
    }

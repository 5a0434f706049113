"""Values deeper than 8 bits: one rule for files and arrays; bands and pages by argument."""

import ml_dtypes
import numpy as np
import pytest
import tifffile
from PIL import Image

from samjax.errors import ImageError
from samjax.image.read import read_image
from tests.support.pictures import write_png


@pytest.fixture(scope="module")
def twelve_bits() -> np.ndarray:
    """Colours of 12 bits in 16, as cameras write them: nearly black where 65535 is white."""
    y, x = np.mgrid[:24, :40]
    return np.stack([x * 100, y * 170, (x + y) * 60], -1).astype(np.uint16)


@pytest.mark.parametrize("interlaced", [False, True])
def test_sixteen_bit_colour_files_are_windowed_as_arrays_are(tmp_path, twelve_bits, interlaced):
    write_png(tmp_path / "a.png", twelve_bits, interlaced=interlaced)
    read = read_image(tmp_path / "a.png")
    assert read.max() == 255
    np.testing.assert_array_equal(read, read_image(twelve_bits))
    with Image.open(tmp_path / "a.png") as lazy:  # 8 bits are all that Pillow keeps of it
        assert lazy.mode == "RGB"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"planarconfig": "separate"}])
def test_sixteen_bit_colour_tiffs(tmp_path, twelve_bits, order, options):
    values = np.moveaxis(twelve_bits, 2, 0) if "planarconfig" in options else twelve_bits
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", byteorder=order, **options)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), read_image(twelve_bits))


def test_sixteen_bit_transparency_in_files(tmp_path, twelve_bits):
    alpha = np.full((24, 40, 1), 65535, np.uint16)
    alpha[:5] = 0
    rgba = np.concatenate([twelve_bits, alpha], -1)
    write_png(tmp_path / "a.png", rgba)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), read_image(rgba))
    assert (read_image(tmp_path / "a.png")[:5] == 255).all()
    write_png(tmp_path / "grey.png", rgba[..., [0, 3]])
    grey = np.concatenate([twelve_bits[..., [0, 0, 0]], alpha], -1)
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), read_image(grey))
    write_png(tmp_path / "key.png", twelve_bits, transparent=tuple(twelve_bits[3, 7].tolist()))
    keyed = read_image(tmp_path / "key.png")
    assert (keyed[3, 7] == 255).all()
    np.testing.assert_array_equal(keyed[4, 8], read_image(twelve_bits)[4, 8])


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64, np.uint32, np.float32, np.float64])
def test_slices_of_ct_keep_their_tissue(tmp_path, dtype):
    signed = np.dtype(dtype).kind != "u"
    ct = np.full((32, 32), -1000 if signed else 0)
    ct[8:24, 8:24] = 40 if signed else 1040  # tissue in air
    ct[12:16, 12:16] = 1000 if signed else 2000  # bone
    read = read_image(ct.astype(dtype))[..., 0]
    assert [read[0, 0], read[13, 13]] == [0, 255]
    assert read[9, 9] == pytest.approx(255 * 1040 / 2000, abs=1)
    tifffile.imwrite(tmp_path / "ct.tif", ct.astype(dtype))
    np.testing.assert_array_equal(read_image(tmp_path / "ct.tif")[..., 0], read)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_half_precision(dtype):
    unit = np.linspace(0, 1, 64).reshape(8, 8).astype(dtype)
    np.testing.assert_array_equal(read_image(unit), read_image(unit.astype(np.float32)))
    wide = unit * dtype(100)
    np.testing.assert_array_equal(read_image(wide), read_image(wide.astype(np.float32)))
    assert read_image(wide).max() == 255


def test_windows_of_extreme_values():
    for low, high in ((-1.7e308, 1.7e308), (0.0, 1e-300), (-1e-310, 0.0)):
        read = read_image(np.array([[low, high]] * 2))
        np.testing.assert_array_equal(read[0, :, 0], [0, 255] if high >= 1 else [0, 0])
    integers = np.array([[-(2**63), 2**63 - 1]])
    np.testing.assert_array_equal(read_image(integers)[0, :, 0], [0, 255])


def test_bands_and_pages_are_chosen(tmp_path):
    rng = np.random.default_rng(0)
    bands = rng.integers(0, 255, (20, 30, 5), np.uint8)
    path = tmp_path / "five.tif"
    tifffile.imwrite(path, bands, photometric="minisblack", planarconfig="contig")
    with pytest.raises(ImageError, match=r"five\.tif: TIFF of 5 bands: choose one or three, as b"):
        read_image(path)
    np.testing.assert_array_equal(read_image(path, bands=(3, 2, 0)), bands[..., [3, 2, 0]])
    np.testing.assert_array_equal(read_image(path, bands=4), bands[..., [4, 4, 4]])
    np.testing.assert_array_equal(read_image(bands, bands=[3, 2, 0]), bands[..., [3, 2, 0]])
    for wrong in ((0, 1), (0, 1, -1), True, ()):
        with pytest.raises(ImageError, match="pass one index, or three"):
            read_image(path, bands=wrong)
    with pytest.raises(ImageError, match="no band 5 in an image of 5 bands"):
        read_image(path, bands=5)
    with pytest.raises(ImageError, match=r"choose bands, as bands=\(0, 1, 2\)"):
        read_image(bands)
    planes = tmp_path / "planes.tif"
    tifffile.imwrite(planes, np.moveaxis(bands, 2, 0), photometric="minisblack",
                     planarconfig="separate")  # fmt: skip
    np.testing.assert_array_equal(read_image(planes, bands=(3, 2, 0)), bands[..., [3, 2, 0]])

    pages = tmp_path / "pages.tif"
    grey = [Image.fromarray(bands[..., i]) for i in range(3)]
    grey[0].save(pages, save_all=True, append_images=grey[1:])
    for i in range(3):
        np.testing.assert_array_equal(read_image(pages, page=i)[..., 0], bands[..., i])
        np.testing.assert_array_equal(read_image(pages, page=i, bands=0)[..., 0], bands[..., i])
    with Image.open(pages) as opened:
        for source in (pages, opened):
            with pytest.raises(ImageError, match="has no page 3: choose one of 0 to 2"):
                read_image(source, page=3)
    with pytest.raises(ImageError, match="page is -1"):
        read_image(pages, page=-1)
    with pytest.raises(ImageError, match="page is for files"):
        read_image(bands, page=0)


def test_bands_of_a_png(tmp_path, twelve_bits):
    write_png(tmp_path / "a.png", twelve_bits)
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.png", bands=2), read_image(twelve_bits[..., 2])
    )


def test_a_tiff_without_tifffile_says_what_to_install(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4, 5), np.uint8), photometric="minisblack",
                     planarconfig="contig")  # fmt: skip
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    with pytest.raises(ImageError, match=r"pip install 'samjax\[tiff\]'"):
        read_image(tmp_path / "a.tif", bands=0)


def test_broken_deep_files_are_refused(tmp_path, twelve_bits):
    write_png(tmp_path / "a.png", twelve_bits)
    tifffile.imwrite(tmp_path / "a.tif", twelve_bits[..., [0, 1, 2, 0, 1]], photometric="rgb")
    for name in ("a.png", "a.tif"):
        data = (tmp_path / name).read_bytes()
        for keep in (0.3, 0.6, 0.9):
            (tmp_path / name).write_bytes(data[: int(len(data) * keep)])
            with pytest.raises(ImageError) as caught:
                read_image(tmp_path / name, bands=(0, 1, 2))
            assert "\n" not in str(caught.value)

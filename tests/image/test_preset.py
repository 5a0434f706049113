import jax
import numpy as np
import pytest

from samjax.errors import ImageError
from samjax.image.longest_side import resize
from samjax.image.preset import PRESETS, SAM, Preset, get_preset, normalise, prepare

MEAN = np.array([123.675, 116.28, 103.53])
STD = np.array([58.395, 57.12, 57.375])


def picture(height: int, width: int) -> np.ndarray:
    # No pixel is 0, so that padding cannot be taken for image.
    return np.random.default_rng(0).integers(1, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("shape", "fitted"), [((30, 40), (48, 64)), ((40, 30), (64, 48)), ((9, 9), (64, 64))]
)
def test_prepare_fits_into_the_top_left_corner(shape, fitted):
    image = picture(*shape)
    prepared = prepare(image, 64)
    assert prepared.input_size == fitted
    assert prepared.original_size == shape
    assert prepared.pixels.shape == (64, 64, 3)
    assert prepared.pixels.dtype == np.uint8
    h, w = fitted
    np.testing.assert_array_equal(prepared.pixels[:h, :w], resize(image, fitted))
    assert not prepared.pixels[h:].any()
    assert not prepared.pixels[:, w:].any()


def test_a_preset_can_fit_otherwise():
    squash = Preset("squash", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), fit=lambda _, size: (size, size))
    prepared = prepare(picture(10, 30), 16, squash)
    assert prepared.input_size == (16, 16)
    assert (prepared.pixels > 0).all()


def test_presets():
    assert get_preset("sam") is SAM
    assert all(PRESETS[name].name == name for name in PRESETS)
    np.testing.assert_array_equal(SAM.pixel_mean, MEAN)
    np.testing.assert_array_equal(SAM.pixel_std, STD)
    assert hash(SAM) == hash(get_preset("sam"))
    with pytest.raises(ImageError, match=r"unknown preset 'smam'.*\bsam\b"):
        get_preset("smam")


def test_normalise_and_exact_zeros_in_the_padding():
    prepared = prepare(picture(20, 40), 32)
    h, w = prepared.input_size
    values = np.asarray(normalise(prepared.pixels, np.array([h, w], np.int32)))
    assert values.dtype == np.float32
    expected = (prepared.pixels[:h, :w] - MEAN) / STD
    np.testing.assert_allclose(values[:h, :w], expected, rtol=0, atol=1e-6)
    # Not (0 - mean) / std, which is about -2.
    assert not values[h:].any()
    assert not values[:, w:].any()


def test_a_black_pixel_is_not_padding():
    values = normalise(np.zeros((4, 4, 3), np.uint8), np.array([2, 3], np.int32))
    np.testing.assert_allclose(np.asarray(values)[1, 2], -MEAN / STD, atol=1e-6)


def test_one_compilation_serves_every_size_and_the_size_is_not_frozen():
    traces = []

    @jax.jit
    def compiled(pixels, input_size):
        traces.append(1)
        return normalise(pixels, input_size)

    pixels = picture(16, 16)
    for h, w in ((16, 8), (8, 16), (1, 1)):
        inside = np.asarray(compiled(pixels, np.array([h, w], np.int32)) != 0).any(axis=-1)
        assert inside.sum() == h * w
        assert inside[:h, :w].all()
    assert len(traces) == 1


def test_batches_equal_single_images():
    pixels = np.stack([picture(8, 8), picture(8, 8)[::-1]])
    sizes = np.array([[8, 5], [3, 8]], np.int32)
    batch = normalise(pixels, sizes)
    mapped = jax.vmap(normalise)(pixels, sizes)
    for index in range(2):
        single = normalise(pixels[index], sizes[index])
        np.testing.assert_array_equal(batch[index], single)
        np.testing.assert_array_equal(mapped[index], single)

"""Training samples: crops of photographs with objects pasted onto them, and prompts."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from benchmarks.miou.clickers import centre_click
from convert.tiny.sources import NOT_PASTED, OTHER, SHARES, Picture, Sources

MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)
POINT, BOX = 0, 1
PSEUDO = 0.6  # share of a teacher's masks, where a photograph has some
CENTRED = 0.7  # share of the first clicks that are farthest from the object's edge
PASTED = 10_000  # labels from here on are pasted objects


class Sample(NamedTuple):
    """One image with P prompts; S is the network's input size, m = S / 4 its mask size.

    Attributes:
        image: [3, S, S] float32, normalised, zero in the padding.
        masks: [P, m, m] float32, the share of each 4 x 4 cell that the object covers.
        valid: [m, m] uint8, 0 in the padding.
        corners: [P, 2, 2] float32, (x, y) in input pixels, pixel centres at +0.5: the box's two
            corners, or the click and an unused point.
        kinds: [P] int64, POINT or BOX.
        features: [s, 256] float32, the teacher's image embedding at each of the s cells.
        known: [s] float32, 1 where there is one: not in the padding, nor below pasted objects.
    """

    image: np.ndarray
    masks: np.ndarray
    valid: np.ndarray
    corners: np.ndarray
    kinds: np.ndarray
    features: np.ndarray
    known: np.ndarray


class Sampler:
    """Draws samples; everything random comes from one generator.

    `augment` scales how far colours are changed and how often images are cropped, made grey,
    blurred and noisy: at 0 a photograph is shown whole and as it is, mirrored at most.
    """

    def __init__(
        self,
        sources: Sources,
        size: int,
        seed: int,
        paste: float = 0.5,
        augment: float = 1.0,
    ):
        self.sources, self.size, self.paste, self.augment = sources, size, paste, augment
        self.rng = np.random.default_rng(seed)
        self.kinds = [name for name, pictures in sources.images.items() if pictures]
        self.kinds += ["scene"] if sources.cut_outs else []
        shares = np.array([SHARES.get(name, OTHER) for name in self.kinds])
        self.shares = shares / shares.sum()

    # ------------------------------------------------------------------ images

    def _pick(self, things: list):
        return things[self.rng.integers(len(things))]

    def _colour(self, image: np.ndarray) -> np.ndarray:
        """Brightness, contrast, colour cast, grey, channel order; float32, 0..255."""
        u, rng, a = self.rng.uniform, self.rng, self.augment
        gain, offset = 1 + a * u(-0.35, 0.35), a * u(-30, 30)
        image = image.astype(np.float32) * np.float32(gain) + np.float32(offset)
        if rng.random() < 0.5:
            image = image * (1 + a * u(-0.25, 0.25, (1, 1, 3))).astype(np.float32)
        if rng.random() < 0.1 * a:
            image = image[..., rng.permutation(3)]
        if rng.random() < 0.15 * a:
            image = np.repeat(image.mean(2, keepdims=True), 3, 2)
        return np.clip(image, 0, 255)

    def _texture(self, height: int, width: int) -> np.ndarray:
        """A piece of a photograph, smooth noise, stripes or a plain colour; [h, w, 3] uint8."""
        rng = self.rng
        choice = rng.random()
        if choice < 0.5:
            if self.sources.backgrounds and rng.random() < 0.5:
                picture = self._pick(self.sources.backgrounds)
            else:
                picture = self._pick(self.sources.images["bsds"]).image()
            side = int(rng.uniform(0.1, 0.5) * min(picture.shape[:2]))
            y = rng.integers(picture.shape[0] - side + 1)
            x = rng.integers(picture.shape[1] - side + 1)
            return cv2.resize(picture[y : y + side, x : x + side], (width, height))
        base = rng.uniform(0, 255, 3)
        if choice < 0.7:
            cells = int(rng.integers(2, 14))
            noise = rng.normal(0, rng.uniform(5, 50), (cells, cells, 3)) + base
            noise = cv2.resize(
                noise.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
            )
        elif choice < 0.85:
            angle, period = rng.uniform(0, np.pi), rng.uniform(4, 40)
            ys, xs = np.mgrid[:height, :width]
            wave = np.sin((xs * np.cos(angle) + ys * np.sin(angle)) * 2 * np.pi / period)
            noise = base + wave[..., None] * rng.uniform(5, 60, 3)
        else:
            noise = np.broadcast_to(base, (height, width, 3))
        return np.clip(noise, 0, 255).astype(np.uint8)

    def _shape(self) -> tuple[np.ndarray, np.ndarray]:
        """A drawn, textured object: a blob, a polygon, an ellipse or a bar."""
        rng, side = self.rng, 128
        angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        choice = rng.random()
        if choice < 0.5:
            waves = np.arange(1, 7)
            amplitude = rng.normal(0, 0.35, (2, 6)) / waves
            radius = 1 + (
                amplitude[0] @ np.cos(np.outer(waves, angles))
                + amplitude[1] @ np.sin(np.outer(waves, angles))
            )
            radius = np.clip(radius, 0.15, None)
            points = np.stack([radius * np.cos(angles), radius * np.sin(angles)], 1)
        elif choice < 0.75:
            corners = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 9)))
            radius = rng.uniform(0.3, 1, len(corners))
            points = np.stack([radius * np.cos(corners), radius * np.sin(corners)], 1)
        elif choice < 0.9:
            points = np.stack([np.cos(angles), np.sin(angles)], 1)
        else:
            points = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float)
        points[:, 1] *= rng.uniform(0.2, 1)
        points -= points.min(0)
        extent = points.max()
        points = points / extent * (side - 1)
        width, height = (int(np.ceil(v)) + 1 for v in points.max(0))
        alpha = np.zeros((max(height, 2), max(width, 2)), np.uint8)
        cv2.fillPoly(alpha, [points.round().astype(np.int32)], 255, lineType=cv2.LINE_AA)
        return self._texture(*alpha.shape), alpha

    def _paste(
        self, image: np.ndarray, labels: np.ndarray, count: int, largest: float
    ) -> np.ndarray:
        """Paste objects onto a float32 image in place of what lies below; `labels` is changed."""
        rng, (height, width) = self.rng, labels.shape
        for number in range(count):
            drawn = rng.random() < 0.2
            colours, alpha = self._shape() if drawn else self._pick(self.sources.cut_outs)
            scale = np.exp(rng.uniform(np.log(0.1), np.log(largest))) * self.size / max(alpha.shape)
            transform = cv2.getRotationMatrix2D(
                (alpha.shape[1] / 2, alpha.shape[0] / 2), rng.uniform(-35, 35), scale
            )
            if rng.random() < 0.5:
                colours, alpha = colours[:, ::-1], alpha[:, ::-1]
            transform[0, 2] += rng.uniform(0, width) - alpha.shape[1] / 2
            transform[1, 2] += rng.uniform(0, height) - alpha.shape[0] / 2
            cover = cv2.warpAffine(
                np.ascontiguousarray(alpha).astype(np.float32) / 255, transform, (width, height)
            )
            if (cover > 0.5).sum() < 60:
                continue
            colours = self._colour(np.ascontiguousarray(colours))
            warped = cv2.warpAffine(
                colours, transform, (width, height), borderMode=cv2.BORDER_REPLICATE
            )
            if rng.random() < 0.3:
                cover = cv2.GaussianBlur(cover, (0, 0), rng.uniform(0.4, 1.0))
            image = image * (1 - cover[..., None]) + warped * cover[..., None]
            labels[cover > 0.5] = PASTED + number
        return image

    def _image(self) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """RGB [h, w, 3] float32 0..255, its labels [h, w] int32 (0: none), features and known."""
        size, rng, u = self.size, self.rng, self.rng.uniform
        kind = rng.choice(self.kinds, p=self.shares)
        if kind == "scene":
            if self.sources.backgrounds and rng.random() < 0.7:
                image = self._pick(self.sources.backgrounds)
            else:
                image = self._texture(256, 320)
            labels = np.zeros(image.shape[:2], np.int32)
            picture = None
        else:
            picture = self._pick(self.sources.images[kind])
            image = picture.image()
            if picture.pseudo and rng.random() < PSEUDO:
                labels = picture.pseudo_labels(int(rng.integers(len(picture.pseudo))))
            else:
                labels = picture.labels(int(rng.integers(len(picture.maps))))
        height, width = labels.shape
        part = min(1, u(0.4, 1.2)) if rng.random() < self.augment else 1
        side = int(max(height, width) * part)
        h, w = min(height, side), min(width, side)
        y, x = rng.integers(height - h + 1), rng.integers(width - w + 1)
        image, labels = image[y : y + h, x : x + w], labels[y : y + h, x : x + w]
        crop = np.array([x / width, y / height, w / width, h / height])
        scale = size / max(h, w)
        h, w = max(16, round(h * scale)), max(16, round(w * scale))
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        image = self._colour(cv2.resize(image, (w, h), interpolation=interpolation))
        labels = cv2.resize(labels.astype(np.float32), (w, h), interpolation=cv2.INTER_NEAREST)
        labels = labels.astype(np.int32)
        if kind == "scene":
            image = self._paste(image, labels, int(rng.integers(3, 12)), 0.6)
        elif kind not in NOT_PASTED and self.sources.cut_outs and rng.random() < self.paste:
            image = self._paste(image, labels, int(rng.integers(1, 4)), 0.7)
        if rng.random() < 0.3 * self.augment:
            image = cv2.GaussianBlur(image, (0, 0), u(0.3, 1))
        if rng.random() < 0.2 * self.augment:
            image = image + rng.normal(0, u(2, 12), image.shape).astype(np.float32)
        mirrored = rng.random() < 0.5
        if mirrored:
            image, labels = image[:, ::-1], labels[:, ::-1]
        return image, labels, self._teacher(picture, crop, mirrored, labels)

    def _teacher(
        self, picture: Picture | None, crop: np.ndarray, mirrored: bool, labels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The teacher's features at the cells' centres, between its own cells' centres."""
        g = self.size // 16
        if picture is None or picture.features is None:
            return np.zeros((g * g, 256), np.float32), np.zeros(g * g, np.float32)
        table = np.load(picture.features, mmap_mode="r")
        (h, w), n = labels.shape, len(table)
        ys, xs = (((np.arange(g) + 0.5) * 16 / side) for side in (h, w))
        inside = (ys[:, None] < 1) & (xs[None] < 1)
        if mirrored:
            xs = 1 - xs
        v, u = (
            np.clip((start + part * extent) * n - 0.5, 0, n - 1.001)
            for start, part, extent in ((crop[1], ys, crop[3]), (crop[0], xs, crop[2]))
        )
        top, left = v.astype(int), u.astype(int)
        dy, dx = ((a - b).astype(np.float32) for a, b in ((v, top), (u, left)))
        rows = table[top] * (1 - dy)[:, None, None] + table[top + 1] * dy[:, None, None]
        found = rows[:, left] * (1 - dx)[:, None] + rows[:, left + 1] * dx[:, None]
        square = np.zeros((self.size, self.size), bool)
        square[:h, :w] = labels >= PASTED
        pasted = square.reshape(g, 16, g, 16).any((1, 3))
        known = (inside & ~pasted).astype(np.float32)
        return found.reshape(g * g, 256).astype(np.float32), known.ravel()

    # ----------------------------------------------------------------- prompts

    def _click(self, mask: np.ndarray, pixels: tuple, centred: bool) -> tuple[float, float]:
        ys, xs = pixels
        i = self.rng.integers(len(ys))
        x, y = centre_click(mask)[:2] if centred else (xs[i], ys[i])
        return x + 0.5, y + 0.5

    def _box(self, pixels: tuple, shape: tuple[int, int]) -> np.ndarray:
        """Tight, or with each side moved by a tenth of its length at most twice (SAM, A)."""
        ys, xs = pixels
        box = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], np.float32)
        if self.rng.random() < 0.6:
            sides = np.tile(box[2:] - box[:2], 2)
            limit = self.size * 20 / 1024 * 2
            noise = np.clip(self.rng.normal(0, 0.05, 4) * sides, -limit, limit)
            box = np.clip(box + noise, 0, [shape[1], shape[0]] * 2)
        return box.reshape(2, 2)

    def sample(self, prompts: int) -> Sample:
        """One image with `prompts` prompts, objects taken in turn."""
        size, cells, rng = self.size, self.size // 4, self.rng
        smallest = 40 * (size / 256) ** 2
        while True:
            image, labels, (features, known) = self._image()
            numbers, areas = np.unique(labels, return_counts=True)
            usable = numbers[(numbers > 0) & (areas > smallest)]
            if len(usable):
                break
        rng.shuffle(usable)
        usable = usable[:prompts]
        h, w = labels.shape
        padded = np.zeros((size, size, 3), np.float32)
        padded[:h, :w] = (image - MEAN) / STD
        valid = np.zeros((cells, cells), np.uint8)
        valid[: -(-h // 4), : -(-w // 4)] = 1
        masks = np.zeros((prompts, cells, cells), np.float32)
        corners = np.zeros((prompts, 2, 2), np.float32)
        kinds = np.zeros(prompts, np.int64)
        square = np.zeros((size, size), np.int32)
        square[:h, :w] = labels
        objects = []
        for number in usable:
            mask = square == number
            share = mask.reshape(cells, 4, cells, 4).mean((1, 3), dtype=np.float32)
            objects.append((mask, share, np.nonzero(mask), rng.integers(2)))
        for p in range(prompts):
            mask, share, pixels, first = objects[p % len(objects)]
            masks[p] = share
            kinds[p] = (first + p // len(objects)) % 2
            if kinds[p] == BOX:
                corners[p] = self._box(pixels, (h, w)) + 0.5
            else:
                corners[p, 0] = self._click(mask, pixels, centred=rng.random() < CENTRED)
        return Sample(padded.transpose(2, 0, 1), masks, valid, corners, kinds, features, known)


class Standardise:
    """Brings a teacher's features to mean 0 and deviation 1, judged by some photographs."""

    def __init__(self, sources: Sources):
        taught = [x.features for found in sources.images.values() for x in found if x.features]
        tables = [np.load(f)[::4, ::4].reshape(-1, 256) for f in taught[::20]]
        table = (
            np.concatenate(tables, dtype=np.float32) if tables else np.zeros((1, 256), np.float32)
        )
        self.mean, self.deviation = table.mean(0), table.std(0) + 1e-6

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """[..., 256], clipped at five deviations."""
        return np.clip((features - self.mean) / self.deviation, -5, 5)

"""Ways to annotate, as a person would in JupyterLab: many boxes, edits of masks, random actions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Page

from tests.support.browser.pages import AnnotatorPage, NotebookPage, opened_notebook

CELL = """
import samjax

a = samjax.Annotator(
    samjax.load(), ["dots.png", "other.png"], labels=("cat", "dog"), height=400
)
a
"""
# What the kernel holds: for each object its class, whether it is done, and the hash of its pixels
KERNEL = """{
    o.id: [o.label, o.committed, hashlib.sha256(m.astype("uint8").tobytes()).hexdigest()]
    for (o, _), m in zip(a._controller.finished(), a.masks)
}"""
# The same of the page: pixels are unpacked from the runs that it paints
PAGE = """async (root) => {
  const { state } = root.samjaxPage;
  const [width, height] = state.image.display;
  const held = {};
  for (const { id, label, committed } of state.told.objects) {
    const pixels = new Uint8Array(width * height);
    let at = 0;
    state.masks.get(id).runs.forEach((length, i) => {
      pixels.fill(i % 2, at, at + length);
      at += length;
    });
    if (at !== pixels.length) throw new Error(`object ${id} has ${at} pixels`);
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", pixels));
    const hex = [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    held[id] = [label, committed, hex];
  }
  return held;
}"""


def dots(count: int) -> tuple[Image.Image, list[tuple[float, float, float]]]:
    """Draw discs on a grid of 300 x 240 pixels; returns their (x, y, radius)."""
    image = Image.new("RGB", (300, 240), (30, 26, 44))
    draw = ImageDraw.Draw(image)
    rng = np.random.default_rng(0)
    places = []
    for i in range(count):
        x, y = 18 + 29 * (i % 10), 20 + 40 * (i // 10)
        radius = float(rng.uniform(7, 11))
        places.append((x, y, radius))
        colour = tuple(int(v) for v in rng.integers(120, 256, 3))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return image, places


@pytest.fixture(scope="module")
def opened(module_page: Page, lab) -> Iterator[NotebookPage]:
    """Open one notebook for all tests here."""
    dots(50)[0].save(lab[2] / "dots.png")
    dots(20)[0].save(lab[2] / "other.png")
    with opened_notebook(module_page, lab, "annotating", CELL) as notebook:
        yield notebook


@pytest.fixture
def annotator(opened) -> AnnotatorPage:
    """Return the annotator at its first image, without objects, in the point tool."""
    opened.python("a.go(0)\na.wait()\nfor e in a.prompts: a.delete(e['id'])")
    annotator = opened.annotator()
    annotator.until("data.image === '0' && data.objects === '0' && data.state === 'ready'")
    annotator.canvas.press("v")
    return annotator


def box(annotator: AnnotatorPage, x: float, y: float, radius: float) -> None:
    """Drag a box around a disc."""
    annotator.drag(x - radius - 2, y - radius - 2, x + radius + 2, y + radius + 2)


def agree(opened: NotebookPage, annotator: AnnotatorPage) -> dict:
    """Check that page and kernel hold the same objects, every pixel the same, and return them."""
    annotator.until("data.state === 'ready'")
    kernel = opened.value(KERNEL, "import hashlib")
    assert annotator.root.evaluate(PAGE) == kernel
    active = opened.value("a._controller.state.active")
    assert annotator.data("active") == ("" if active is None else str(active))
    return kernel


def test_fifty_boxes_take_fifty_drags_and_nothing_else(opened, annotator) -> None:
    annotator.press("b")
    for place in dots(50)[1]:
        box(annotator, *place)
    annotator.until("data.objects === '50' && data.state === 'ready'")
    held = agree(opened, annotator)
    assert len(held) == 50
    opened.python(
        "assert all(e['committed'] for e in a.prompts)\nassert all(m.any() for m in a.masks)"
    )
    assert "1 done" in annotator.root.locator(".samjax-title").inner_text()


def test_a_click_selects_the_mask_there_and_the_point_tool_adds(annotator) -> None:
    first, second = dots(50)[1][0], dots(50)[1][5]
    annotator.press("b")
    for place in (first, second):
        with annotator.painted():
            box(annotator, *place)
    assert annotator.data("active") != ""
    last = annotator.data("active")
    annotator.click(first[0], first[1])
    annotator.until(f"data.active !== '{last}' && data.active !== ''")
    annotator.click(150, 230)  # on no mask
    annotator.until("data.active === ''")
    annotator.press("s")
    annotator.click(second[0], second[1])
    annotator.until(f"data.active === '{last}'")
    assert annotator.data("objects") == "2"
    annotator.press("v")
    with annotator.painted():
        annotator.click(first[0], first[1])  # a point of the selected object
    assert annotator.data("objects") == "2"
    assert annotator.data("active") == last


def test_edits_of_masks_and_their_undo(opened, annotator) -> None:
    first, second = dots(50)[1][0], dots(50)[1][5]
    annotator.press("b")
    for place in (first, second):
        with annotator.painted():
            box(annotator, *place)
    opened.python("before = [int(m.sum()) for m in a.masks]")
    with annotator.painted():
        annotator.press(".")
    opened.python("assert a.masks[1].sum() > before[1]")
    with annotator.painted():
        annotator.press(",")
    with annotator.painted():
        annotator.press("d")
    assert annotator.data("objects") == "3"
    with annotator.painted():
        annotator.press("Delete")
    annotator.press("s")
    annotator.click(*second[:2])
    annotator.until("data.active !== ''")
    annotator.page.keyboard.down("Shift")
    annotator.click(*first[:2])
    annotator.page.keyboard.up("Shift")
    with annotator.painted():
        annotator.press("j")
    assert annotator.data("objects") == "1"
    with annotator.painted():
        annotator.press("k")  # into its parts again
    assert int(annotator.data("objects")) >= 2
    agree(opened, annotator)
    for _ in range(8):
        annotator.press("z")
    annotator.until("data.objects === '0'")


def test_the_outline_is_edited_by_its_vertices(opened, annotator) -> None:
    x, y, radius = dots(50)[1][22]
    annotator.press("b")
    with annotator.painted():
        box(annotator, x, y, radius)
    annotator.press("r")
    rings = annotator.root.evaluate("(root) => root.samjaxPage.editor.rings")
    assert rings
    opened.python("before = a.masks[0].copy()")
    vertex = max(rings[0], key=lambda p: p[0])  # the rightmost
    with annotator.painted():
        annotator.drag(vertex[0], vertex[1], vertex[0] + 12, vertex[1])
    opened.python(
        "gained = a.masks[0] & ~before\n"
        "assert gained.sum() > 10 and not (before & ~a.masks[0]).any()\n"
        "assert a.prompts[0]['strokes']"
    )
    with annotator.painted():
        annotator.press("z")
    opened.python("assert (a.masks[0] == before).all()")


def test_hidden_objects_and_the_list_of_images(annotator) -> None:
    first, second = dots(50)[1][0], dots(50)[1][5]
    annotator.press("b")
    for place in (first, second):
        with annotator.painted():
            box(annotator, *place)
    annotator.press("Escape")
    annotator.press("Shift+N")
    annotator.until("data.active === ''")
    annotator.press("h")
    page = "(root) => root.samjaxPage.state.held.length"
    assert annotator.root.evaluate(page) == 0
    annotator.press("h")
    assert annotator.root.evaluate(page) == 2
    annotator.press("i")
    rows = annotator.root.locator(".samjax-imagerow")
    rows.nth(1).wait_for()
    assert rows.count() == 2
    assert "2 objects, done" in rows.nth(0).inner_text()
    annotator.page.wait_for_function(
        "(root) => root.querySelectorAll('.samjax-imagerow img[src]').length === 2",
        arg=annotator.root.element_handle(),
    )
    annotator.root.locator(".samjax-imagelist input[type=search]").fill("other")
    assert rows.count() == 1
    rows.nth(0).click()
    annotator.until("data.image === '1' && data.state === 'ready'")
    annotator.root.locator(".samjax-imagelist input[type=search]").fill("")
    annotator.press("i")


def test_a_class_gets_another_name_and_becomes_part_of_one(opened, annotator) -> None:
    with annotator.painted():
        annotator.click(*dots(50)[1][0][:2])
    annotator.press("2")
    annotator.until("data.state === 'ready'")

    def rename(old: str, new: str) -> None:
        chip = annotator.root.locator(".samjax-chip", has_text=old)
        chip.locator(".samjax-label").click(button="right")
        annotator.page.keyboard.type(new)
        annotator.page.keyboard.press("Enter")
        annotator.until("data.state === 'ready'")

    rename("dog", "fox")
    opened.python(
        "assert a.labels == ['fox'] and a.classes == ['cat', 'fox'], (a.labels, a.classes)"
    )
    rename("fox", "cat")
    opened.python("assert a.labels == ['cat'], a.labels\nassert a.classes == ['cat']")
    opened.python("a.rename_class('cat', 'dog')\na.rename_class('dog', 'cat')\na.label('dog')")


class RandomPerson:
    """Does random things, faster than the kernel answers."""

    def __init__(self, annotator: AnnotatorPage, seed: int):
        self.annotator, self._rng = annotator, np.random.default_rng(seed)
        self._places = dots(50)[1]

    def act(self) -> None:
        """Do one of all kinds of things."""
        kinds = {
            **{self._point: 0.2, self._drag: 0.2, self._stroke: 0.1, self._key: 0.33},
            **{self._select: 0.08, self._slide: 0.05, self._combine: 0.04},
        }
        list(kinds)[int(self._rng.choice(len(kinds), p=list(kinds.values())))]()

    def _place(self) -> tuple[float, float, float]:
        return self._places[int(self._rng.integers(len(self._places)))]

    def _point(self) -> None:
        self.annotator.press("v")
        button = "right" if self._rng.random() < 0.2 else "left"
        self.annotator.click(*self._place()[:2], button=button)

    def _drag(self) -> None:
        self.annotator.press("b")
        box(self.annotator, *self._place())

    def _stroke(self) -> None:
        self.annotator.press("g" if self._rng.random() < 0.7 else "e")
        x, y, radius = self._place()
        self.annotator.drag(x - radius, y, x + radius, y + 3)

    def _key(self) -> None:
        keys = [*"mm12zz", "Shift+Z", "Enter", "Delete", "Shift+N", *"np.,dk"]
        self.annotator.press(str(self._rng.choice(keys)))

    def _select(self) -> None:
        self.annotator.press("s")
        self.annotator.click(*self._place()[:2])

    def _slide(self) -> None:
        key = "ArrowRight" if self._rng.random() < 0.5 else "ArrowLeft"
        for _ in range(3):
            self.annotator.root.locator("input.samjax-threshold").press(key)

    def _combine(self) -> None:
        rows = self.annotator.root.locator(".samjax-object")
        for _ in range(2):
            if count := rows.count():
                row = rows.nth(int(self._rng.integers(count)))
                row.dispatch_event("click", {"shiftKey": True, "bubbles": True})
        self.annotator.press("j" if self._rng.random() < 0.5 else "Shift+J")


def test_200_random_actions_leave_page_and_kernel_agreeing(opened, annotator) -> None:
    # An object is there before, so that the start is not just nothing.
    annotator.press("b")
    with annotator.painted():
        box(annotator, *dots(50)[1][44])
    annotator.press("Enter")
    annotator.until("data.active === '' && data.state === 'ready'")
    start = agree(opened, annotator)
    assert len(start) == 1
    opened.python("depth = len(a._controller.project.history(0).past)")
    steps = "len(a._controller.project.history(0).past) - depth"
    objects = "repr(a._controller.state.objects)"
    seen = {}  # what was held on the way, by the objects of the kernel
    depths = set()  # where the way back meets it
    person = RandomPerson(annotator, seed=7)
    for step in range(200):
        person.act()
        if step % 10 == 9:
            held = agree(opened, annotator)
            seen[opened.value(objects)] = held
            depths.add(opened.value(steps))
    end, count = agree(opened, annotator), opened.value(steps)
    assert count > 60  # of 200 actions many are selections, undo and redo
    assert len(end) > 5
    met = 0
    for left in range(count - 1, -1, -1):
        annotator.press("z")
        if left in depths:
            held = agree(opened, annotator)
            before = seen.get(opened.value(objects), held)
            met += before is not held
            assert held == before
    assert met >= 3
    annotator.until("data.state === 'ready'")  # all undone: the kernel answers beside its cells
    assert opened.value(steps) == 0
    assert agree(opened, annotator) == start
    for _ in range(count):
        annotator.press("Shift+Z")
    assert agree(opened, annotator) == end
    for _ in range(count):
        annotator.press("z")
    assert agree(opened, annotator) == start

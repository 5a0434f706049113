"""Test the model card that a notebook shows."""

from __future__ import annotations

from xml.etree import ElementTree

import samjax
from samjax.engine.card import card_rows
from tests.support.hub_models import folder_files


def table_of(html: str) -> dict[str, str]:
    """Parse the card's table."""
    start, end = html.index("<table"), html.index("</table>") + len("</table>")
    table = ElementTree.fromstring(html[start:end])
    return {
        row.findtext("th", ""): "".join(cell.itertext())
        for row in table.iter("tr")
        for cell in row.iter("td")
    }


def test_the_card_of_the_embedded_checkpoint(embedded):
    shown = table_of(embedded._repr_html_())
    assert shown == dict(card_rows(embedded))
    assert shown["source"] == "embedded"
    assert shown["preset"] == "sam"
    assert "7.5 M parameters" in shown["sizes"]
    assert shown["mask threshold"].startswith("0 ")
    assert embedded.card == ""
    assert embedded.origin is None


def test_the_card_of_a_model_on_the_hub(hub):
    commit = hub.add("lab/small", folder_files())
    sam = samjax.load("hf://lab/small")
    shown = table_of(sam._repr_html_())
    assert shown["commit"] == commit
    assert shown["source"] == f"hf://lab/small@{commit}"
    assert shown["licence"] == "apache-2.0"
    assert shown["page"] == "https://huggingface.co/lab/small"
    assert 'href="https://huggingface.co/lab/small"' in sam._repr_html_()
    assert sam.card.startswith("---\nlicense: apache-2.0")


def test_text_is_escaped(small):
    small.source = "<script>alert(1)</script>.pth"
    try:
        html = small._repr_html_()
    finally:
        small.source = "random weights"
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_a_mobile_encoder_has_a_card():
    from tests.support.models import MOBILE

    assert "TinyViT of widths 8-12-16-320" in dict(card_rows(samjax.load(MOBILE)))["sizes"]

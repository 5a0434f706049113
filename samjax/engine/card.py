"""Show a model in a notebook: name, family, sizes, preset, thresholds, source and licence."""

from __future__ import annotations

from html import escape

from samjax.checkpoint.parameters import parameter_count
from samjax.engine.segmenter import Segmenter

_STYLE = (
    ".samjax-card{border-collapse:collapse;font-size:13px;margin:4px 0}"
    ".samjax-card caption{text-align:left;font-weight:600;padding:2px 0 4px;caption-side:top}"
    ".samjax-card th,.samjax-card td{text-align:left;vertical-align:top;padding:2px 12px 2px 0;"
    "background:none;border:0;font-weight:400;overflow-wrap:anywhere;white-space:normal}"
    ".samjax-notes{font-size:13px}"
    ".samjax-card th{opacity:.65;white-space:nowrap}"
)


def card_rows(sam: Segmenter) -> list[tuple[str, str]]:
    """Return (name, value) of all that a reader of the notebook may want to know of a model."""
    config, encoder = sam.config, sam.config.image_encoder
    widths = getattr(encoder, "widths", None)
    sizes = (
        f"TinyViT of widths {'-'.join(map(str, widths))}"
        if widths
        else f"width {getattr(encoder, 'width', '?')}, depth {getattr(encoder, 'depth', '?')}"
    )
    rows = [
        ("family", sam.family),
        ("sizes", f"{parameter_count(config) / 1e6:.1f} M parameters, image encoder: {sizes}"),
        ("input", f"{config.image_size} x {config.image_size} px"),
        ("preset", sam.preset.name),
        ("mask threshold", f"{sam.mask_threshold:g} (logit above which a pixel is in the mask)"),
        ("products", f"{sam.dtype.name}, precision {sam.precision}"),
        ("device", ", ".join(map(str, sam.devices))),
    ]
    if sam.origin is None:
        return [*rows, ("source", sam.source)]
    entry = sam.origin.entry
    rows += [
        ("for", sam.origin.purpose),
        ("source", entry.address),
        ("commit", entry.commit or ""),
        *(("sha256", f"{sha256} {name}") for name, sha256 in entry.weights.items()),
        ("recorded", f"{entry.date}, fixed by {entry.pinned_by}"),
        ("licence", entry.licence or "not stated here, see the page"),
        ("page", sam.origin.page),
    ]
    return [(name, value) for name, value in rows if value]


def card_html(sam: Segmenter) -> str:
    """Return a table in HTML: no script, and nothing is fetched; all text is escaped."""
    lines = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{_linked(value)}</td></tr>'
        for name, value in card_rows(sam)
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in sam.notes)
    shown = (
        f'<details class="samjax-notes"><summary>{len(sam.notes)} notes on loading</summary>'
        f"<ul>{notes}</ul></details>"
    )
    return (
        f'<style>{_STYLE}</style><table class="samjax-card">'
        f"<caption>{escape(sam.source)}</caption><tbody>{lines}</tbody></table>"
        f"{shown if sam.notes else ''}"
    )


def _linked(value: str) -> str:
    """Escape a value; a web address becomes a link."""
    text = escape(value)
    if value.startswith("https://") and " " not in value:
        return f'<a href="{text}" rel="noopener noreferrer" target="_blank">{text}</a>'
    return text

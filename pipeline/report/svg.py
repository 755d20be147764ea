"""Small inline pictures, in shares of their size: they fit any width, and dots stay round.

Every text that comes from data is escaped here; colours are classes of the page's style.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from pipeline.report.quality import Interval

_TALL, _WIDE = 40, 100  # the inner units of a line chart, which is stretched


def interval_dot(interval: Interval, top: float, is_ours: bool) -> Markup:
    """A dot with its 95 % interval on a scale from 0 to `top`."""
    scale = 96 / top if top > 0 else 0.0

    def at(value: float) -> float:
        return round(2 + scale * value, 2)

    kind = "ours" if is_ours else "other"
    line = Markup()
    if interval.low is not None and interval.high is not None:
        line = Markup('<line class="{}" x1="{}%" x2="{}%" y1="9" y2="9"/>').format(
            kind, at(interval.low), at(interval.high)
        )
    dot = Markup('<circle class="{}" cx="{}%" cy="9" r="5"/>').format(kind, at(interval.value))
    return Markup('<svg class="dots" aria-hidden="true">{}{}</svg>').format(line, dot)


def line_chart(values: Sequence[float], label: str) -> Markup:
    """Values in their order, from the lowest to the highest."""
    low, high = min(values), max(values)
    span, steps = (high - low) or 1.0, max(len(values) - 1, 1)
    points = " ".join(
        f"{_WIDE * step / steps:.2f},{1 + (_TALL - 2) * (1 - (value - low) / span):.2f}"
        for step, value in enumerate(values)
    )
    return Markup(
        '<svg class="line" role="img" aria-label="{}" viewBox="0 0 {} {}" preserveAspectRatio="none">'
        '<polyline points="{}"/></svg>'
    ).format(label, _WIDE, _TALL, points)


def scatter(
    points: Sequence[tuple[float, float]],
    label: str,
    titles: Sequence[str] = (),
    classes: Sequence[str] = (),
    with_diagonal: bool = False,
) -> Markup:
    """Dots at (right, up), each between 0 and 1; a title is shown on hover."""
    dots = Markup().join(
        Markup('<circle class="{}" cx="{}%" cy="{}%" r="4">{}</circle>').format(
            classes[row] if classes else "ours",
            round(2 + 96 * right, 2),
            round(98 - 96 * up, 2),
            Markup("<title>{}</title>").format(titles[row]) if titles else "",
        )
        for row, (right, up) in enumerate(points)
    )
    line = Markup('<line class="even" x1="2%" y1="98%" x2="98%" y2="2%"/>') if with_diagonal else Markup()
    return Markup('<svg class="square" role="img" aria-label="{}">{}{}</svg>').format(label, line, dots)


def waveform(levels: Sequence[float]) -> Markup:
    """Loudness over time as bars about a middle line."""
    bars = "".join(f"M{bar + 0.5} {12 - 11 * level:.1f}V{12 + 11 * level:.1f}" for bar, level in enumerate(levels))
    return Markup(
        '<svg class="wave" aria-hidden="true" viewBox="0 0 {} 24" preserveAspectRatio="none"><path d="{}"/></svg>'
    ).format(len(levels), bars)


def span(start: float, length: float) -> Markup:
    """A bar on a time line; both are shares of the whole."""
    return Markup(
        '<svg class="dots" aria-hidden="true"><rect class="ours" x="{}%" y="4" width="{}%" height="10"/></svg>'
    ).format(round(100 * start, 2), round(max(100 * length, 0.3), 2))

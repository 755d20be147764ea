"""Covers for items that bring no picture: a drawing that is the same for the same item, in the colour of its
creator."""

from __future__ import annotations

import hashlib
import math

_SIZE, _BARS = 96, 12


def cover(item_id: str, creator: str) -> str:
    """An SVG of 96 x 96: a ring of bars as high as the bytes of the id's hash say, hued by the creator."""
    heights = hashlib.blake2b(item_id.encode("utf-8", "replace"), digest_size=_BARS).digest()
    hue = (
        360
        * int.from_bytes(
            hashlib.blake2b((creator or item_id).encode("utf-8", "replace"), digest_size=2).digest(), "big"
        )
        // 65536
    )
    centre = _SIZE / 2
    bars = []
    for place, height in enumerate(heights):
        angle, reach = 2 * math.pi * place / _BARS, 14 + 26 * height / 255
        inner = (centre + 12 * math.cos(angle), centre + 12 * math.sin(angle))
        outer = (centre + reach * math.cos(angle), centre + reach * math.sin(angle))
        bars.append(f"M{inner[0]:.1f} {inner[1]:.1f}L{outer[0]:.1f} {outer[1]:.1f}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_SIZE} {_SIZE}" width="{_SIZE}" height="{_SIZE}">'
        f'<rect width="{_SIZE}" height="{_SIZE}" rx="10" fill="hsl({hue},45%,30%)"/>'
        f'<path d="{"".join(bars)}" stroke="hsl({hue},70%,78%)" stroke-width="5" stroke-linecap="round"/></svg>'
    )

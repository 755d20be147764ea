"""Which pictures stand for a video: by scene change and by time. Pure functions of small pictures and their times.

Dimensions: N candidates, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

CUT_LEVELS = 27.0  # mean absolute difference of two neighbours, in levels of 0..255, from which on they are two scenes
STILL_LEVELS = 2.0  # below this a scene does not move: compression noise
FLAT_LEVELS = 4.0  # a picture whose levels deviate less than this shows nothing: a black lead-in, a fade


@dataclass(frozen=True)
class _Piece:
    """A stretch of one scene: candidates first..last, shown from start_s to end_s."""

    first: int
    last: int
    start_s: float
    end_s: float


def choose_key_frames(pictures: np.ndarray, times_s: np.ndarray, end_s: float, count: int) -> list[int]:
    """Indices of at most `count` candidates, ascending.

    With up to `count` scenes: the first picture of each, then the longest scenes that move are halved in time until
    `count` are found (so a single shot gives pictures evenly spaced in time, and a still one gives a single picture).
    With more scenes: the timeline is cut into `count` equal parts, and the scene that fills most of a part stands for
    it. An empty picture (a fade from black) gives way to the first one of its scene that shows something.

    pictures: uint8 [N, H, W, 3], N >= 1; times_s: float [N], presentation times, ascending; end_s: when the last one
    ends.
    """
    levels = pictures.reshape(len(pictures), -1).astype(np.float32)
    scenes = _scenes(levels, times_s, end_s)
    pieces = _spread(scenes, times_s, end_s, count) if len(scenes) > count else _halved(scenes, levels, times_s, count)
    return sorted({_showing(piece, levels) for piece in pieces})


def shown_at(times_s: np.ndarray, time_s: float) -> int:
    """The index of the picture on screen at that time: the last one that has begun."""
    return max(0, int(np.searchsorted(times_s, time_s + 1e-6, side="right")) - 1)


def _scenes(levels: np.ndarray, times_s: np.ndarray, end_s: float) -> list[_Piece]:
    changes = np.abs(levels[1:] - levels[:-1]).mean(axis=1)
    firsts = [0, *(np.flatnonzero(changes >= CUT_LEVELS) + 1).tolist()]
    lasts = [first - 1 for first in firsts[1:]] + [len(levels) - 1]
    ends_s = [float(times_s[first]) for first in firsts[1:]] + [max(end_s, float(times_s[-1]))]
    return [_Piece(first, last, float(times_s[first]), stop_s) for first, last, stop_s in zip(firsts, lasts, ends_s)]


def _halved(scenes: list[_Piece], levels: np.ndarray, times_s: np.ndarray, count: int) -> list[_Piece]:
    pieces = list(scenes)
    while len(pieces) < count:
        for piece in sorted(
            pieces, key=lambda piece: piece.start_s - piece.end_s
        ):  # longest first; of equals, the earliest
            halves = _halves(piece, levels, times_s)
            if halves:
                pieces.remove(piece)
                pieces.extend(halves)
                break
        else:
            break
    return pieces


def _halves(piece: _Piece, levels: np.ndarray, times_s: np.ndarray) -> list[_Piece]:
    middle_s = (piece.start_s + piece.end_s) / 2
    second = shown_at(times_s, middle_s)
    moves = np.abs(levels[piece.first : piece.last + 1] - levels[piece.first]).mean(axis=1).max() >= STILL_LEVELS
    if second <= piece.first or not moves:
        return []
    return [_Piece(piece.first, second - 1, piece.start_s, middle_s), _Piece(second, piece.last, middle_s, piece.end_s)]


def _spread(scenes: list[_Piece], times_s: np.ndarray, end_s: float, count: int) -> list[_Piece]:
    begin_s = scenes[0].start_s
    part_s = (max(end_s, float(times_s[-1])) - begin_s) / count
    chosen = []
    for part in range(count):
        from_s, to_s = begin_s + part * part_s, begin_s + (part + 1) * part_s
        scene = max(scenes, key=partial(_shared_s, from_s=from_s, to_s=to_s))
        first = max(scene.first, shown_at(times_s, from_s)) if scene.start_s < from_s else scene.first
        chosen.append(_Piece(first, scene.last, max(scene.start_s, from_s), scene.end_s))
    return chosen


def _shared_s(scene: _Piece, from_s: float, to_s: float) -> float:
    """How long a scene is on screen in a stretch of time; negative where it is not."""
    return min(scene.end_s, to_s) - max(scene.start_s, from_s)


def _showing(piece: _Piece, levels: np.ndarray) -> int:
    """The first picture of the piece that shows something; its first one where none does."""
    if levels[piece.first].std() >= FLAT_LEVELS:
        return piece.first
    spreads = levels[piece.first : piece.last + 1].std(axis=1)
    showing = np.flatnonzero(spreads >= FLAT_LEVELS)
    return piece.first + int(showing[0]) if len(showing) else piece.first

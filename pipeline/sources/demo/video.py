"""A few seconds of moving shapes whose look follows the visible traits: hue, motion, contrast, angularity."""

from __future__ import annotations

import colorsys

import numpy as np

WIDTH, HEIGHT = 96, 72  # pixels
FRAMES_PER_S = 12
NUM_SHAPES = 4
NUM_SPIKES = 5
TRAIL_FRAMES = 4  # each shape leaves an echo, so that motion shows in a still
SCENE_FRAMES = 30  # a cut after so many


def look_parameters(traits: np.ndarray) -> tuple[float, float, float, float]:
    """Hue of the shapes in 0..0.75 (red to violet), speed in pixels a frame, brightness step in 0..1, depth of the
    spikes in 0..0.6.

    traits: float [4], about standard normal: hue, motion, contrast, angularity.
    """
    hue, motion, contrast, angularity = 1.0 / (1.0 + np.exp(-1.5 * np.asarray(traits, float)))
    return 0.75 * hue, 0.2 + 6.0 * motion**1.5, 0.12 + 0.68 * contrast, 0.6 * angularity


def render(traits: np.ndarray, duration_s: float, rng: np.random.Generator) -> np.ndarray:
    """Shapes that move over a dark ground and leave a trail; a new arrangement every SCENE_FRAMES.

    traits: float [4]: hue, motion, contrast, angularity.
    Returns uint8 [round(duration_s * FRAMES_PER_S), HEIGHT, WIDTH, 3], RGB.
    """
    hue, speed_pixels, step, spike_depth = look_parameters(traits)
    num_frames = round(duration_s * FRAMES_PER_S)
    ground = np.array(colorsys.hsv_to_rgb((hue + 0.05) % 1.0, 0.6, 0.15), np.float32)
    frames = np.empty((num_frames, HEIGHT, WIDTH, 3), np.uint8)
    for scene_start in range(0, num_frames, SCENE_FRAMES):
        scene_frames = min(SCENE_FRAMES, num_frames - scene_start)
        sprites = [_sprite(int(rng.integers(9, 15)), spike_depth, rng.uniform(0, 2 * np.pi)) for _ in range(NUM_SHAPES)]
        colours = [
            np.array(
                colorsys.hsv_to_rgb(float(np.clip(hue + rng.normal(0, 0.02), 0, 0.8)), 0.75, 0.15 + step), np.float32
            )
            for _ in range(NUM_SHAPES)
        ]
        paths = _paths(rng, speed_pixels, scene_frames)  # [scene_frames + TRAIL_FRAMES, NUM_SHAPES, 2]
        for frame in range(scene_frames):
            canvas = np.broadcast_to(ground, (HEIGHT, WIDTH, 3)).copy()
            for lag in reversed(range(TRAIL_FRAMES)):
                for shape in range(NUM_SHAPES):
                    _paste(
                        canvas,
                        sprites[shape],
                        colours[shape],
                        paths[frame + TRAIL_FRAMES - lag, shape],
                        1.0 - lag / TRAIL_FRAMES,
                    )
            frames[scene_start + frame] = np.rint(255 * canvas).astype(np.uint8)
    return frames


def _sprite(radius: int, spike_depth: float, turn: float) -> np.ndarray:
    """Coverage of a disc whose rim goes in and out NUM_SPIKES times: float32 [2 radius + 1, 2 radius + 1] in 0..1."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float32)
    rim = radius * (1.0 - spike_depth * (0.5 - 0.5 * np.cos(NUM_SPIKES * (np.arctan2(y, x) - turn))))
    return np.clip(rim - np.hypot(x, y) + 0.5, 0.0, 1.0).astype(np.float32)


def _paths(rng: np.random.Generator, speed_pixels: float, scene_frames: int) -> np.ndarray:
    """Centres of the shapes, bouncing at the borders: int [scene_frames + TRAIL_FRAMES, NUM_SHAPES, 2] as (row,
    column)."""
    start = rng.uniform((0, 0), (HEIGHT, WIDTH), (NUM_SHAPES, 2))
    angle = rng.uniform(0, 2 * np.pi, NUM_SHAPES)
    velocity = speed_pixels * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    straight = start + np.arange(scene_frames + TRAIL_FRAMES)[:, None, None] * velocity
    size = np.array([HEIGHT - 1, WIDTH - 1])
    folded = np.abs((straight + size) % (2 * size) - size)
    return np.rint(folded).astype(int)


def _paste(canvas: np.ndarray, sprite: np.ndarray, colour: np.ndarray, centre: np.ndarray, opacity: float) -> None:
    """Blend the sprite into the canvas, cut at its borders."""
    radius = len(sprite) // 2
    row, column = int(centre[0]) - radius, int(centre[1]) - radius
    top, left = max(row, 0), max(column, 0)
    bottom, right = min(row + len(sprite), HEIGHT), min(column + len(sprite), WIDTH)
    alpha = opacity * sprite[top - row : bottom - row, left - column : right - column, None]
    window = canvas[top:bottom, left:right]
    window += alpha * (colour - window)

"""What a person sees of an episode: a film, drawn from its observations alone.

Our own worlds are drawn as they are; of any other the observations are drawn as curves over time.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from amalgan import files
from amalgan.data import Spec
from amalgan.data.control import Episode
from amalgan.environments import GOAL

SIDE, FINER = 96, 3  # px of a frame, and how much finer it is drawn before it is made smooth
STRIP = 10  # frames of a strip
TOLD, LONGEST, SHOWN_MS = 4, 100, 50  # episodes side by side in a GIF, its frames, milliseconds of each
PAPER, INK, SOFT, ACCENT = (243, 241, 235), (40, 42, 48), (196, 192, 182), (200, 88, 28)

Scene = Callable[[ImageDraw.ImageDraw, np.ndarray, int], None]  # draws moment t of observations (T, O) into [-1, 1]^2


def strip(observations: np.ndarray, spec: Spec) -> Tensor:
    """Frames of an episode (T, O), evenly spread over a whole one's horizon: uint8 (STRIP, 3, SIDE, SIDE)."""
    moments = np.linspace(0, spec.details["horizon"] - 1, STRIP).round().astype(int)
    frames = np.stack([np.asarray(frame(observations, int(t), spec)) for t in moments])
    return torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()


def frame(observations: np.ndarray, moment: int, spec: Spec) -> Image.Image:
    """One moment of an episode (T, O); after its end the last one."""
    size = SIDE * FINER
    picture = Image.new("RGB", (size, size), PAPER)
    scene = SCENES.get(spec.details["environment"], curves)
    scene(ImageDraw.Draw(picture), observations, min(moment, len(observations) - 1))
    return picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def save_strip(observations: np.ndarray, spec: Spec, path: Path) -> None:
    """Write a strip as PNG."""
    frames = strip(observations, spec).permute(0, 2, 3, 1).numpy()
    _write(path, Image.fromarray(np.concatenate(list(frames), 1)), "PNG")


def save_film(episodes: Sequence[Episode], spec: Spec, path: Path) -> None:
    """Write the first episodes, side by side, as an animated GIF."""
    shown = [episode.observations for episode in episodes[:TOLD]]
    moments = np.linspace(0, spec.details["horizon"], min(LONGEST, spec.details["horizon"] + 1)).round().astype(int)
    pictures = [
        Image.fromarray(np.concatenate([np.asarray(frame(seen, int(t), spec)) for seen in shown], 1)) for t in moments
    ]
    first, *others = pictures
    _write(path, first, "GIF", save_all=True, append_images=others, duration=SHOWN_MS, loop=0)


def _write(path: Path, picture: Image.Image, kind: str, **how: object) -> None:
    held = io.BytesIO()
    picture.save(held, kind, **how)
    files.write_bytes(path, held.getvalue())


# Scenes: x to the right and y up, both in [-1, 1]


def _at(*points: tuple[float, float]) -> list[tuple[float, float]]:
    half = SIDE * FINER / 2
    return [(half * (1 + x), half * (1 - y)) for x, y in points]


def _line(draw: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], colour: tuple[int, ...], px: float) -> None:
    draw.line(_at(*points), fill=colour, width=round(px * FINER), joint="curve")


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, colour: tuple[int, ...]) -> None:
    draw.ellipse(_at((x - radius, y + radius), (x + radius, y - radius)), fill=colour)


def pendulum(draw: ImageDraw.ImageDraw, seen: np.ndarray, t: int) -> None:
    """A rod around the middle; upright is where it should be."""
    cos, sin = float(seen[t, 0]), float(seen[t, 1])
    tip = (-0.75 * sin, 0.75 * cos)
    _line(draw, [(0, 0), (0, 0.85)], SOFT, 1)
    _line(draw, [(0, 0), tip], INK, 5)
    _disc(draw, *tip, 0.13, ACCENT)
    _disc(draw, 0, 0, 0.05, INK)


def cart_pole(draw: ImageDraw.ImageDraw, seen: np.ndarray, t: int) -> None:
    """A cart on its track, and its pole, as long as it is against the track."""
    place, angle = float(seen[t, 0]) / 2.7, float(seen[t, 2])
    _line(draw, [(-0.9, -0.5), (0.9, -0.5)], SOFT, 1)
    for end in (-0.89, 0.89):
        _line(draw, [(end, -0.56), (end, -0.44)], SOFT, 1)
    draw.rectangle(_at((place - 0.17, -0.36), (place + 0.17, -0.5)), fill=INK)
    _line(draw, [(place, -0.38), (place + 0.9 * math.sin(angle), -0.38 + 0.9 * math.cos(angle))], ACCENT, 4)


def point_mass(draw: ImageDraw.ImageDraw, seen: np.ndarray, t: int) -> None:
    """Where the mass is, and its way there; the cross is where it should be."""
    middle, reach = GOAL / 2 - 0.3, GOAL  # of what is shown: the starts and the goal
    way = [((float(x) - middle) / reach, (float(y) - middle) / reach) for x, y in seen[: t + 1, :2]]
    goal = (GOAL - middle) / reach
    _line(draw, [(goal - 0.15, goal), (goal + 0.15, goal)], INK, 1.5)
    _line(draw, [(goal, goal - 0.15), (goal, goal + 0.15)], INK, 1.5)
    if len(way) > 1:
        _line(draw, way, SOFT, 3)
    _disc(draw, *way[-1], 0.12, ACCENT)


def curves(draw: ImageDraw.ImageDraw, seen: np.ndarray, t: int) -> None:
    """Each value of the observations over time, from its least to its greatest, up to now."""
    low, high = seen.min(0), seen.max(0)
    places = np.linspace(-0.9, 0.9, len(seen))
    heights = 1.6 * (seen - low) / np.maximum(high - low, 1e-9) - 0.8
    for i, column in enumerate(heights.T):
        colour = tuple(round(a + (b - a) * i / max(1, len(low) - 1)) for a, b in zip(INK, ACCENT))
        points = list(zip(places[: t + 1].tolist(), column[: t + 1].tolist()))
        if len(points) > 1:
            _line(draw, points, colour, 1.5)
        _disc(draw, *points[-1], 0.03, colour)


SCENES: dict[str, Scene] = {
    "Pendulum-v1": pendulum, "gymnasium:Pendulum-v1": pendulum,
    "CartPole-v1": cart_pole, "gymnasium:CartPole-v1": cart_pole,
    "point-mass": point_mass,
}  # fmt: skip

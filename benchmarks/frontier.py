"""The frontier of the thesis: pixel error against Frechet distance, over lambda and over rate, on the validation split.

    python -m benchmarks.frontier            mnist and fashion at the short budget, one seed
    python -m benchmarks.frontier mnist

Writes docs/results/pictures/images-frontier-DATA.svg: one line for each recipe over the latent sizes, and one for the
VAE-GAN over lambda at 8 dimensions. Runs are kept with those of the thesis, so that nothing is trained twice.
"""

from __future__ import annotations

import math
import sys
from typing import Any

from benchmarks import jobs, thesis

SEED = 100
RATES = (4, 8, 16, 32, 64)
LAMBDAS = (0.0, 0.015, 0.05, 0.125, 0.4, 1.2)
NAMES = {"mnist": "MNIST", "fashion": "Fashion-MNIST"}
COLOURS = ("#2f6fb0", "#0f8a7e", "#c2571a")

Line = tuple[str, list[tuple[str, float, float]]]  # name, (label, pixel error, Frechet distance)


def lines(data: str) -> list[Line]:
    """Train what is missing; the three lines of the picture."""

    def job(row: str, **more: Any) -> jobs.Job:
        return thesis.job(data, thesis.STEPS["short"], row, SEED, "validation", **more)

    wanted = {f"{row}, z = 4 to 64": [(f"{z}", job(f"{row}-z8", latent=z)) for z in RATES] for row in ("vae", "vaegan")}
    wanted["vaegan, z = 8, λ = 0 to 1.2"] = [(f"{lam:g}", job("vaegan-z8", lam=lam)) for lam in LAMBDAS]
    every = [job for line in wanted.values() for _, job in line]
    found = {jobs.key(job): result["numbers"] for job, result in zip(every, jobs.work("explored", every, thesis.do))}
    numbers = {name: [(label, found[jobs.key(job)]) for label, job in line] for name, line in wanted.items()}
    return [
        (name, [(label, n["pixel_mse"], n["frechet/fitted"]) for label, n in line]) for name, line in numbers.items()
    ]


def picture(found: list[Line], title: str) -> str:
    """The lines on two logarithmic axes, as one SVG; lower left is better."""
    width, height, left, right, top, bottom = 640, 420, 60, 20, 40, 70
    xs = [math.log10(x) for _, points in found for _, x, _ in points]
    ys = [math.log10(y) for _, points in found for _, _, y in points]
    (x0, x1), (y0, y1) = ((min(v) - 0.08, max(v) + 0.08) for v in (xs, ys))

    def at(x: float, y: float) -> tuple[float, float]:
        u = left + (math.log10(x) - x0) / (x1 - x0) * (width - left - right)
        return u, top + (y1 - math.log10(y)) / (y1 - y0) * (height - top - bottom)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/><text x="{left}" y="22" font-size="15">{title}</text>',
    ]
    steps = [m * 10.0**e for e in range(-4, 4) for m in (1, 1.5, 2, 3, 5, 7)]
    for value in (v for v in steps if x0 <= math.log10(v) <= x1):
        u, _ = at(value, 10**y0)
        parts.append(f'<path d="M{u:.1f} {top}V{height - bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{u:.1f}" y="{height - bottom + 16}" text-anchor="middle">{value:g}</text>')
    for value in (v for v in steps if y0 <= math.log10(v) <= y1):
        _, v = at(10**x0, value)
        parts.append(f'<path d="M{left} {v:.1f}H{width - right}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{v + 4:.1f}" text-anchor="end">{value:g}</text>')
    parts.append(
        f'<text x="{width / 2}" y="{height - bottom + 34}" text-anchor="middle">pixel error, validation</text>'
    )
    parts.append(
        f'<text transform="translate(16 {height / 2}) rotate(-90)" text-anchor="middle">Fréchet distance of samples</text>'
    )
    for (name, points), colour, i in zip(found, COLOURS, range(3)):
        path = "M" + "L".join(f"{u:.1f} {v:.1f}" for u, v in (at(x, y) for _, x, y in points))
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        side, anchor = ((7, "start"), (-7, "end"))[i == 2]  # the line over lambda crosses the one over rate
        told: list[tuple[float, float]] = []
        for label, x, y in points:
            u, v = at(x, y)
            parts.append(f'<circle cx="{u:.1f}" cy="{v:.1f}" r="3.5" fill="{colour}"/>')
            if all(abs(u - a) > 24 or abs(v - b) > 11 for a, b in told):
                told.append((u, v))
                parts.append(
                    f'<text x="{u + side:.1f}" y="{v + 4 * (i == 2) - 5 * (i < 2):.1f}" text-anchor="{anchor}" '
                    f'fill="{colour}" font-size="11">{label}</text>'
                )
        parts.append(f'<text x="{left + 200 * i}" y="{height - 12}" fill="{colour}">● {name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    from amalgan import files

    for data in sys.argv[1:] or ("mnist", "fashion"):
        title = f"{NAMES[data]}, {thesis.STEPS['short']:,} steps, fitted prior: lower left is better"
        drawn = picture(lines(data), title)
        files.write_bytes(thesis.PICTURES / f"images-frontier-{data}.svg", drawn.encode())
        jobs.say(f"wrote {thesis.PICTURES / f'images-frontier-{data}.svg'}")


if __name__ == "__main__":
    main()

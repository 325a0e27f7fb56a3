"""The page: complete, valid, self-contained, and safe with any name."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from amalgan import drawing, modalities, recipes, report
from amalgan.comparison import summary
from amalgan.data import Spec
from amalgan.errors import UsageError
from amalgan.modalities import pictures
from amalgan.verdict import verdict

VOID = {"meta", "img", "br", "path", "circle", "rect"}
SECTIONS = (
    "numbers", "samples", "reconstructions", "interpolations", "neighbours", "curves", "cost", "data", "again", "rules"
)  # fmt: skip
NASTY = '<script>alert("1")</script>&'


class Balanced(HTMLParser):
    """Checks that every tag is closed in order, and keeps what a test wants to know."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes <{self.open[-1:]}>"
        self.open.pop()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def parsed(page: str) -> Balanced:
    parser = Balanced()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


IMAGES = modalities.of("images")
METRICS = IMAGES.metrics


def fake_results(
    folder: Path,
    names: tuple[str, ...] = ("vae", "gan"),
    seeds: int = 3,
    shape: tuple[int, ...] = (1, 8, 8),
    data: str = "digits",
) -> dict[str, Any]:
    """A comparison's folder with made-up numbers and pictures of noise."""
    torch.manual_seed(0)
    rows, listed = [], []
    points = len(shape) == 1

    def make(n: int) -> torch.Tensor:
        return torch.randn(n, *shape) if points else torch.randint(256, (n, *shape), dtype=torch.uint8)

    for i, name in enumerate(names):
        encoder = name != "gan"
        for seed in range(seeds):
            for metric, (unit, better, _) in METRICS.items():
                of_codes = metric in IMAGES.groups["Reconstruction and likelihood"]
                if of_codes and not encoder:
                    continue
                for prior in ("fitted", "standard") if encoder and not of_codes else ("" if of_codes else "standard",):
                    value = 0.3 + 0.1 * i + 0.01 * seed + (0.2 if prior == "standard" else 0)
                    rows.append({"recipe": name, "seed": seed, "metric": metric, "value": value, "unit": unit,
                                 "better": better, "floor": 0.1, "ceiling": 2.0 if better == "lower" else 0.0, "n": 100,
                                 "prior": prior, "note": "k = 5", "features": "abc"})  # fmt: skip
            run = folder / "runs" / f"{name}-{seed}"
            (run / "judged").mkdir(parents=True, exist_ok=True)
            shared = {"weights": {"kl": 1.0}}
            lines = [{"step": s, "examples": 64 * s, "kl": 5.0 / s, "slope": 0.1 * s} | shared for s in range(1, 9)]
            (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 9, "ima')
            pictures = {"real": make(64), "samples": make(64)}
            if not points:
                pictures |= {"nearest": make(10), "nearest_training": make(10)}
                pictures["interpolations"] = make(36).view(4, 9, *shape)
            if encoder:
                pictures |= {"originals": make(10), "reconstructions": make(10), "samples_standard": make(64)}
            save_file(pictures, run / "judged" / "exhibits.safetensors")
            listed.append({"recipe": name, "seed": seed, "outcome": "done", "reason": "",
                           "folder": f"runs/{name}-{seed}", "steps": 9, "examples": 576,
                           "seconds": 12.0, "cpu_seconds": 20.0, "peak_memory_bytes": 2**28,
                           "parameters": {"decoder": 1000}})  # fmt: skip
    results = {
        "format": 1,
        "data": {"name": data, "fingerprint": "f00", "modality": "points" if points else "images", "shape": list(shape),
                 "classes": [], "sizes": {}, "notes": [f"resized {data}"], "skipped": [[f"{data}.png", "truncated"]]},
        "recipes": {name: {"latent": 4, "lr": 1e-3} for name in names},
        "seeds": list(range(seeds)),
        "budget": {"unit": "steps", "amount": 9},
        "judged": {"split": "test", "n": 100, "features": f"classifier of {data}", "features_fingerprint": "abc",
                   "features_accuracy": 0.99},
        "machine": {"amalgan": "0", "torch": "2", "numpy": "2", "python": "3", "system": "x",
                    "device": "cpu", "threads": 1, "side_by_side": 2},
        "command": f"amalgan compare --data {data}",
        "date": "2026-01-01T00:00:00+00:00",
        "runs": listed,
        "rows": rows,
        "summary": summary(rows, {}, IMAGES),
        "failed": {},
        "verdict": json.loads(json.dumps(verdict(rows, names), default=vars)),
    }  # fmt: skip
    (folder / "results.json").write_text(json.dumps(results))
    return results


def test_every_section_is_there_and_the_html_is_balanced(tmp_path: Path) -> None:
    results = fake_results(tmp_path)
    page = report.write(tmp_path).read_text()
    tags = parsed(page).tags
    assert [a["id"] for tag, a in tags if tag == "section"] == list(SECTIONS)
    assert {a["href"] for tag, a in tags if tag == "a"} == {f"#{section}" for section in SECTIONS}
    assert f"<h1>{results['verdict']['headline']}</h1>" in page
    for metric in METRICS:
        if metric in {row["metric"] for row in results["rows"]}:
            assert METRICS[metric].meaning.split(":")[0] in page
    assert page.count("prefers-color-scheme:dark") == 1 and "@media print" in page


def test_the_page_asks_nothing_of_the_network(tmp_path: Path) -> None:
    fake_results(tmp_path)
    page = report.write(tmp_path).read_text()
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"base64,[^\"]*", "", page))
    tags = parsed(page).tags
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in tags}
    images = [a for tag, a in tags if tag == "img"]
    assert images and all((a["src"] or "").startswith("data:image/png;base64,") and a["alt"] for a in images)
    assert all(a.get("aria-label") for tag, a in tags if tag == "svg")


def test_names_are_escaped(tmp_path: Path) -> None:
    results = fake_results(tmp_path, data=NASTY)
    results["runs"][0] |= {"outcome": "failed", "reason": NASTY}
    (tmp_path / "results.json").write_text(json.dumps(results))
    page = report.write(tmp_path).read_text()
    assert "<script" not in page and "&lt;script&gt;" in page
    parsed(page)


def test_points_are_drawn_as_points(tmp_path: Path) -> None:
    fake_results(tmp_path, shape=(2,))
    page = report.write(tmp_path).read_text()
    tags = parsed(page).tags
    assert not [tag for tag, _ in tags if tag == "img"]
    assert "dots r0" in page and "dots real" in page
    assert "neighbours" not in [a["id"] for tag, a in tags if tag == "section"]


def test_attention_is_shown_where_there_is_some(tmp_path: Path) -> None:
    """Made by the model, kept, and read again: a figure for each layer, the one who makes before the one who judges."""
    fake_results(tmp_path, names=("sagan", "vae"), seeds=1, shape=(1, 16, 16))
    torch.manual_seed(0)
    told = recipes.plan("sagan", Spec("images", (1, 16, 16), ("a", "b")), {"width": 8, "condition": "labels"}).model
    kept = tmp_path / "runs" / "sagan-0" / "judged" / "exhibits.safetensors"
    looks = {name: pictures._stored(x) for name, x in pictures.looks(told.eval()).items()}
    assert all(x.amax((2, 3)).eq(255).all() for name, x in looks.items() if name.startswith("looks "))
    save_file(load_file(kept) | looks, kept)
    page = report.write(tmp_path).read_text()
    tags = parsed(page).tags
    assert [a["id"] for tag, a in tags if tag == "section"][2:4] == ["reconstructions", "attention"]
    figures = [a["alt"] for tag, a in tags if tag == "img" and "marked pixels" in (a["alt"] or "")]
    assert ["decoder" in (alt or "") for alt in figures] == [True, False]
    assert pictures.looks(recipes.plan("vae", Spec("images", (1, 16, 16)), {"width": 4}).model) == {}


def test_a_glance_is_bright_where_it_goes_and_marked_where_it_comes_from() -> None:
    x = torch.full((1, 1, 16, 16), 100, dtype=torch.uint8)
    maps = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    maps[0, 0, 3, 0] = 255
    drawn = drawing.glances(x, [(2, 12)], maps)
    assert drawn.size == (194, 96)  # two tiles of 6 px a pixel and a gap
    ink = tuple(bytes.fromhex(drawing.INKS[0][1:]))
    at = [drawn.getpixel((left + 6 * 12 + 3, 6 * 2 + 3))[:3] for left in (0, 98)]
    assert at == [ink, ink]  # the mark, on both
    assert drawn.getpixel((98 + 5, 90))[:3] == ink and drawn.getpixel((98 + 50, 90))[:3] == (30, 30, 30)
    assert drawn.getpixel((50, 90))[:3] == (100, 100, 100)


def test_large_pictures_are_thinned_until_the_page_fits(tmp_path: Path) -> None:
    fake_results(tmp_path, names=("vae", "gan", "vaegan"), seeds=1, shape=(3, 64, 64))  # noise: nothing compresses less
    assert report.write(tmp_path).stat().st_size < report.LIMIT


def test_a_single_run_has_no_rules_and_no_winner(tmp_path: Path) -> None:
    fake_results(tmp_path, names=("vae",), seeds=1)
    page = report.write(tmp_path).read_text()
    parsed(page)
    assert "<h1>vae has learned.</h1>" in page and 'id="rules"' not in page


def test_recipes_without_any_finished_run_stay_in_the_table(tmp_path: Path) -> None:
    results = fake_results(tmp_path)
    rows = [row for row in results["rows"] if row["recipe"] == "vae"]
    for run in results["runs"]:
        if run["recipe"] == "gan":
            run |= {"outcome": "failed", "reason": "term 'slope' is not a finite number"}
            (tmp_path / run["folder"] / "judged" / "exhibits.safetensors").write_bytes(b"damaged")
            del run["seconds"]
    failed = {"gan": [0, 1, 2]}
    results |= {"rows": rows, "failed": failed, "summary": summary(rows, failed, IMAGES)}
    results["verdict"] = json.loads(json.dumps(verdict(rows, ["vae", "gan"], failed), default=vars))
    (tmp_path / "results.json").write_text(json.dumps(results))
    page = report.write(tmp_path).read_text()
    parsed(page)
    assert '<td class="failed">failed</td>' in page and "No finished run." in page


def test_a_folder_with_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="folder of a run or comparison"):
        report.write(tmp_path)


def test_grids_keep_every_pixel() -> None:
    x = torch.arange(4 * 64, dtype=torch.uint8).view(4, 1, 8, 8)
    sheet = drawing.grid(x, 2)
    assert sheet.mode == "LA" and sheet.size == (17, 17)  # two of 8 px and a gap of 1
    assert sheet.getpixel((0, 0)) == (0, 255) and sheet.getpixel((9, 9)) == (192, 255)
    assert sheet.getpixel((8, 0)) == (0, 0)  # the gap is transparent
    coloured = drawing.grid(torch.zeros(3, 3, 32, 32, dtype=torch.uint8), 2)
    assert coloured.mode == "RGBA" and coloured.size == (130, 130)


def test_a_curve_goes_up_on_the_page_where_its_values_rise() -> None:
    drawn = drawing.curves([("r0", [(0.0, 1.0), (50.0, 2.0), (100.0, 3.0)], True)], 100.0, "rising", "images seen")
    path = re.search(r'class="curve r0 mean" d="M([^"]+)"', drawn)
    assert path
    heights = [float(pair.split()[1]) for pair in path.group(1).split("L")]
    assert heights == sorted(heights, reverse=True) and len(set(heights)) == 3


@pytest.mark.parametrize("values", [[0.0, 0.0], [1e-9, 1e-9], [-5.0, 3.0], [1e-6, 1e6], [7.0]])
def test_axes_stand_any_values(values: list[float]) -> None:
    points = [(float(i), v) for i, v in enumerate(values)]
    assert "nan" not in drawing.curves([("r0", points, False)], 10.0, "any", "steps")
    rows = [("a", "r0", values, float("-inf"), float("inf")), ("b", "r1", values, min(values) - 1, max(values) + 1)]
    for floor, ceiling in ((None, None), (0.0, 1.0), (-1.0, None)):
        assert "nan" not in drawing.intervals(rows, floor, ceiling, "any")

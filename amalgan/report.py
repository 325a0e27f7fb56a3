"""A run or a comparison as one page: results.json and the runs' folders in, a self-contained report.html out.

The page asks nothing of the network and runs no script. It is made from files alone, so it can be made again at any
time: results.json for the numbers and the verdict, RUN/judged/exhibits.safetensors for what there is to see,
RUN/log.jsonl for the curves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from amalgan import exhibits, files, modalities
from amalgan.doctor import Finding, History, examine
from amalgan.drawing import colour_of, curves, intervals
from amalgan.errors import UsageError
from amalgan.modalities import Modality, Page
from amalgan.verdict import interval, number, rules, spread

LIMIT = 3_000_000  # bytes of the page
LEVELS = 5  # of showing less, until the page fits
TERMS = {
    "reconstruction": "−log p(x|z), nats per example: what the decoder misses.",
    "kl": "KL(q(z|x) || p(z)), nats per example: what a code costs.",
    "adversarial": "What the samples' makers want lower: being told from real data.",
    "discriminator": "What the judge wants lower: its errors in telling real from made.",
    "slope": "How steep the judge is around data and samples: a penalty keeps it gentle.",
    "gamma": "How much a layer of self-attention counts, 0 at the start; named after its maps' height in px.",
    "similarity": "Distance between the judge's features of an image and of its reconstruction.",
}
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"  # what a browser may load for the page
# What a log line holds beside the terms
IN_LOG = {"step", "examples", "weights", "seconds", "cpu_seconds", "signals", "diverged"}


def write(folder: str | Path) -> Path:
    """Write report.html into the folder of a comparison or of a finished run, and return its path.

    Raises:
        UsageError: neither a comparison nor a run is there.
    """
    folder = Path(folder)
    if (folder / "recipe.json").is_file():
        from amalgan.comparison import single  # which imports this room

        results = single(folder)
    elif (folder / "results.json").is_file():
        results = files.read_json(folder / "results.json", f"the results in {folder}")
    else:
        raise UsageError(
            f"a report of {folder}",
            "neither results.json nor recipe.json there",
            "give the folder of a run or comparison",
        )
    path = folder / "report.html"
    files.write_bytes(path, render(results, folder).encode())
    return path


def render(results: dict[str, Any], folder: Path) -> str:
    """The page as text, with as many pictures as fit."""
    runs = _shown(results)
    kept = {name: exhibits.read_exhibits(folder / run["folder"]) for name, run in runs.items()}
    seed, page = next(iter(runs.values()))["seed"], ""
    for level in range(LEVELS):
        page = _page(folder, Page(results, kept, seed, level))
        if len(page.encode()) < LIMIT:
            break
    return page


# The page


def _page(folder: Path, shown: Page) -> str:
    results = shown.results
    sections = [
        ("numbers", "The numbers", _numbers(results)),
        *_modality(results).sections(shown),
        ("curves", "Training", _curves(results, folder)),
        ("doctor", "What the doctor says", _doctor(results, folder)),
        ("cost", "Time and memory", _cost(results)),
        ("data", "Data", _data(results)),
        ("again", "To do it again", _again(results)),
        ("rules", "Rules of the verdict", _rules(results)),
    ]
    sections = [(key, title, content) for key, title, content in sections if content]
    links = "".join(f'<a href="#{key}">{title}</a>' for key, title, _ in sections)
    body = "".join(f'<section id="{key}"><h2>{title}</h2>{content}</section>' for key, title, content in sections)
    name = escape(results["data"]["name"])
    headline = escape(results["verdict"]["headline"])
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="color-scheme" content="light dark"><title>{name}: {headline}</title><style>{STYLE}</style></head>'
        "<body>"
        f"<header>{_head(results)}</header><nav>{links}</nav><main>{body}</main>"
        f"<footer>Made by amalgan {escape(results['machine']['amalgan'])} on {escape(results['date'][:10])}. "
        "This page is complete in itself.</footer></body></html>\n"
    )


def _head(results: dict[str, Any]) -> str:
    verdict, names = results["verdict"], list(results["recipes"])
    alone = len(names) == 1
    seeds = f"{len(results['seeds'])} seed{'s' if len(results['seeds']) > 1 else ''}"
    what = f"{names[0]}, one run" if alone else f"{' · '.join(names)}, {seeds} each"
    judged = results["judged"]
    facts = [what, _budget(results), f"judged on {judged['n']:,} {judged['split']} items"]
    cards = []
    for j in verdict["judgements"]:
        title = "If you need both" if j["question"] == "both" else f"For {j['question']}"
        colour = colour_of(results, j["winner"]) if j["winner"] else "none"
        sentence = j["sentence"].partition(": ")[2]
        for start in (f"{j['answer']}. ", f"{j['answer']}, "):
            sentence = sentence.removeprefix(start)
        details = "".join(f"<li>{escape(d)}</li>" for d in j["details"])
        cards.append(
            f'<article class="{colour}"><h3>{title}</h3><p class="answer">{escape(j["answer"])}</p>'
            f"<p>{escape(sentence if sentence.startswith(tuple(names)) else sentence[:1].upper() + sentence[1:])}</p>"
            f"{f'<ul>{details}</ul>' if details else ''}</article>"
        )
    cautions = "".join(f"<p>{escape(line)}</p>" for line in verdict["cautions"])
    return (
        f'<p class="kicker">amalgan · {"run" if alone else "comparison"} · {escape(results["data"]["name"])}</p>'
        f"<h1>{escape(verdict['headline'])}</h1>"
        f'<p class="facts">{escape("  ·  ".join(facts))}</p>'
        + (f'<div class="cautions">{cautions}</div>' if cautions else "")
        + f'<div class="cards">{"".join(cards)}</div>'
    )


def _budget(results: dict[str, Any]) -> str:
    budget, seen = results["budget"], [run["examples"] for run in results["runs"] if "examples" in run]
    amount = f"{budget['amount']:,g}" if budget["unit"] == "minutes" else f"{int(budget['amount']):,}"
    text = f"{amount} {budget['unit']} a run"
    if budget["unit"] != "examples" and seen and max(seen) == min(seen):
        text += f", {max(seen):,} {_modality(results).examples} seen"
    return text


# Numbers


def _numbers(results: dict[str, Any]) -> str:
    entries, names = results["summary"], list(results["recipes"])
    charts = []
    for metric in _modality(results).charts:
        own = _own(results, metric)
        if own:
            bounds = [(e, interval(e)) for e in own]
            rows = [(e["recipe"], colour_of(results, e["recipe"]), e["values"], i.low, i.high) for e, i in bounds]
            alt = f"{_label(results, metric)}: " + ", ".join(f"{e['recipe']} {number(e['value'])}" for e in own)
            drawn = intervals(rows, own[0]["floor"], own[0]["ceiling"], alt, own[0]["unit"] == "share")
            better = f"{own[0]['better']} is better"
            charts.append(
                f"<figure><figcaption><b>{_label(results, metric)}</b> <i>{better}</i></figcaption>{drawn}</figure>"
            )
    body = []
    for group, metrics in _modality(results).groups.items():
        known = [m for m in metrics if any(e["metric"] == m for e in entries)]
        if known:
            body.append(f'<tr class="group"><th colspan="{len(names) + 3}" scope="colgroup">{group}</th></tr>')
            body += [_metric_row(results, metric) for metric in known]
    heads = "".join(
        f'<th scope="col"><span class="chip {colour_of(results, n)}"></span>{escape(n)}</th>' for n in names
    )
    several = len(results["seeds"]) > 1
    about = "Mean ± half of the 95 % interval over seeds. " if several else "One seed: no intervals. "
    about += "<b>Bold</b>: clearly better than every other. " if len(names) > 1 else ""
    about += "Floor: what real data score. Ceiling: what needs no model. ↓ lower is better, ↑ higher is better. "
    if any(e["prior"] == "fitted" for e in entries):
        about += "Small print: the same model sampled from N(0, I) instead of the prior fitted to its codes. "
    about += f"n = {results['judged']['n']:,} real and as many generated items, where not said otherwise."
    small = "Small dots are seeds, the large one their mean, the bar its 95 % interval." if several else ""
    return (
        (f'<div class="charts">{"".join(charts)}</div><p class="note">{small}</p>' if charts else "")
        + '<div class="wide"><table class="numbers"><thead><tr><th scope="col">Metric</th><th scope="col">Floor</th>'
        + f'{heads}<th scope="col">Ceiling</th></tr></thead><tbody>{"".join(body)}</tbody></table></div>'
        + f'<p class="note">{about}</p>'
    )


def _metric_row(results: dict[str, Any], metric: str) -> str:
    own = {e["recipe"]: e for e in _own(results, metric)}
    some = next(iter(own.values()))
    known = _modality(results).metrics
    meaning = known[metric].meaning if metric in known else ""
    count = "" if some["n"] == results["judged"]["n"] else f"n = {some['n']:,}"
    notes = [
        n.partition(" as ")[0]
        for n in some["note"].split(", ")
        if "standard error" not in n and "%" not in n and " samples" not in n
    ]
    about = ", ".join(part for part in [some["unit"].replace("^2", "²").replace("^6", "⁶"), count, *notes] if part)
    arrow = "↓" if some["better"] == "lower" else "↑"
    cells = "".join(_cell(results, metric, own.get(name), name) for name in results["recipes"])
    return (
        f'<tr><th scope="row"><b>{_label(results, metric)}</b> {arrow} <i>{escape(about)}</i><p>{escape(meaning)}</p></th>'
        f'<td class="soft">{number(some["floor"])}</td>{cells}<td class="soft">{number(some["ceiling"])}</td></tr>'
    )


def _cell(results: dict[str, Any], metric: str, entry: dict[str, Any] | None, name: str) -> str:
    """A recipe's number; below it, smaller, the same with samples from N(0, I) where its own prior is a fitted one."""
    if entry is None:
        every = len(results["failed"].get(name, [])) == len(results["seeds"])
        return '<td class="failed">failed</td>' if every else '<td class="soft">–</td>'
    of_standard = (entry["prior"], metric, name, "standard")
    other = [e for e in results["summary"] if ("fitted", e["metric"], e["recipe"], e["prior"]) == of_standard]
    below = "".join(f'<p><abbr title="sampled from N(0, I)">N(0, I)</abbr> {_told(e)}</p>' for e in other)
    return f"<td{' class=best' if entry['clearly_best'] else ''}>{_told(entry)}{below}</td>"


def _told(entry: dict[str, Any]) -> str:
    value, half = spread(interval(entry))
    return value + (f" <small>± {half}</small>" if half else "")


def _own(results: dict[str, Any], metric: str) -> list[dict[str, Any]]:
    """Each recipe's entry for a metric, of the prior that is its own: the fitted one where it has one."""
    mine: dict[str, dict[str, Any]] = {}
    for entry in results["summary"]:
        if entry["metric"] == metric and (entry["recipe"] not in mine or entry["prior"] == "fitted"):
            mine[entry["recipe"]] = entry
    return [mine[name] for name in results["recipes"] if name in mine]


def _label(results: dict[str, Any], metric: str) -> str:
    name = _modality(results).labels.get(metric, metric.replace("_", " "))
    return escape(name[:1].upper() + name[1:])


# Training


def _curves(results: dict[str, Any], folder: Path) -> str:
    logs: dict[str, list[list[dict[str, Any]]]] = {}
    for run in results["runs"]:
        lines = files.read_lines(folder / run["folder"] / "log.jsonl", "examples")
        if lines:
            logs.setdefault(run["recipe"], []).append(lines)
    terms = dict.fromkeys(
        t for runs in logs.values() for lines in runs for line in lines for t in line if t not in IN_LOG
    )
    last = max((lines[-1]["examples"] for runs in logs.values() for lines in runs), default=0)
    unit = f"{_modality(results).examples} seen"
    figures = []
    for term in terms:
        drawn: list[tuple[str, list[tuple[float, float]], bool]] = []
        weights = []
        for name, seeds in logs.items():
            each = [
                [(line["examples"], line[term]) for line in lines if isinstance(line.get(term), float | int)]
                for lines in seeds
            ]
            each = [points for points in each if points]
            if each:
                weights.append(f"{name} × {number(seeds[0][-1].get('weights', {}).get(term, 1.0))}")
                drawn += [(colour_of(results, name), points, False) for points in each] if len(each) > 1 else []
                drawn.append((colour_of(results, name), _mean(each), True))
        if drawn:
            alt = f"{term} over training, {', '.join(weights)}"
            about = f"<p>{escape(TERMS.get(term.partition(' ')[0], ''))}</p>"
            caption = f"<figcaption><b>{escape(term)}</b> <i>{escape(' · '.join(weights))}</i>{about}</figcaption>"
            figures.append(f"<figure>{caption}{curves(drawn, last, alt, unit)}</figure>")
    legend = "".join(f'<span><span class="chip {colour_of(results, n)}"></span>{escape(n)}</span>' for n in logs)
    lead = "Every term under its own name, unweighted; the weights beside it are those of the last step. "
    lead += "Thin: seeds; thick: their mean." if len(results["seeds"]) > 1 else ""
    return (
        f'<p class="lead">{lead}</p><p class="legend">{legend}</p><div class="charts">{"".join(figures)}</div>'
        if figures
        else ""
    )


def _mean(each: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """The mean over seeds where all of them have a value."""
    common = set.intersection(*({x for x, _ in points} for points in each))
    values = [dict(points) for points in each]
    return [(x, sum(v[x] for v in values) / len(values)) for x in sorted(common)]


def _doctor(results: dict[str, Any], folder: Path) -> str:
    """Of each recipe: how its runs are, and every finding once, as the first run that has it shows it."""
    said = []
    for name in results["recipes"]:
        logs = {run["seed"]: folder / run["folder"] for run in results["runs"] if run["recipe"] == name}
        looked = {seed: (at, files.read_lines(at / "log.jsonl", "examples")) for seed, at in logs.items()}
        looked = {seed: (at, lines) for seed, (at, lines) in looked.items() if any("signals" in line for line in lines)}
        diagnoses = {
            seed: examine(History(files.read_json(at / "recipe.json", f"the settings of {at}"), lines))
            for seed, (at, lines) in looked.items()
        }
        if not diagnoses:
            continue
        colour, alone = colour_of(results, name), len(diagnoses) == 1
        healthy = sum(bool(diagnosis.healthy) for diagnosis in diagnoses.values())
        state = ("healthy" if healthy else "not well") if alone else f"{healthy} of {len(diagnoses)} runs healthy"
        chip = f'<span class="chip {colour}"></span>{escape(name)}'
        progress = "".join(
            f"<p>{'' if alone else f'Seed {seed}: '}{escape(diagnosis.progress)}.</p>"
            for seed, diagnosis in diagnoses.items()
        )
        found: dict[str, list[tuple[int, Finding]]] = {}
        for seed, diagnosis in diagnoses.items():
            for finding in diagnosis.findings:
                found.setdefault(finding.name, []).append((seed, finding))
        shown = "".join(
            _finding(these[0][1], looked[these[0][0]][1], colour, [] if alone else [seed for seed, _ in these])
            for these in found.values()
        )
        said.append(f"<h3>{chip}: {state}</h3>{progress}{shown}")
    return "".join(said)


def _finding(finding: Finding, lines: Sequence[dict[str, Any]], colour: str, seeds: Sequence[int]) -> str:
    """One finding: its sentence, its evidence, its plot, its remedies."""
    examples = {line["step"]: line["examples"] for line in lines}
    evidence = ", ".join(f"{name.replace('_', ' ')} {number(value)}" for name, value in finding.evidence.items())
    remedies = "".join(f"<li>{escape(str(remedy))}</li>" for remedy in finding.remedies)
    points = [(float(examples[step]), value) for step, value in finding.trace.looks if step in examples]
    plot = ""
    if len(points) > 1:
        drawn = curves([(colour, points, True)], lines[-1]["examples"], finding.trace.shows, "examples seen")
        plot = f'<div class="charts"><figure><figcaption><b>{escape(finding.trace.shows)}</b></figcaption>{drawn}</figure></div>'
    who = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}; " if seeds else ""
    about = f"{who}{finding.severity}, {finding.confidence:.0%} of the looks agree; {evidence}"
    return (
        f"<p><b>{escape(finding.name[:1].upper() + finding.name[1:])}.</b> {escape(finding.sentence)} "
        f"<i>({escape(about)})</i></p><ul>{remedies}</ul>{plot}"
    )


# Facts


def _cost(results: dict[str, Any]) -> str:
    rows = []
    for name in results["recipes"]:
        runs = [r for r in results["runs"] if r["recipe"] == name and "seconds" in r]
        chip = f'<th scope="row"><span class="chip {colour_of(results, name)}"></span>{escape(name)}</th>'
        if not runs:
            rows.append(f'<tr>{chip}<td colspan="6" class="failed">no finished run</td></tr>')
            continue
        mean: Callable[[str], float] = lambda key, runs=runs: sum(r[key] for r in runs) / len(runs)  # type: ignore[misc]  # noqa: E731
        peaks = [r["peak_memory_bytes"] for r in runs if r["peak_memory_bytes"]]
        memory = f"{max(peaks) / 2**20:,.0f} MiB" if peaks else "–"
        parts = ", ".join(f"{part} {count:,}" for part, count in runs[0]["parameters"].items())
        speed = mean("examples") / max(1e-9, mean("seconds"))
        rows.append(
            f"<tr>{chip}<td>{_duration(mean('seconds'))}</td><td>{_duration(mean('cpu_seconds'))}</td><td>{mean('steps'):,.0f}</td>"
            f'<td>{number(speed)}</td><td>{memory}</td><td class="text">{escape(parts)}</td></tr>'
        )
    failures = "".join(
        f"<li>{escape(r['recipe'])}, seed {r['seed']}: {escape(r['reason'])}</li>"
        for r in results["runs"]
        if r["outcome"] == "failed"
    )
    machine = results["machine"]
    device = f"{machine['device']}, {machine['threads']} thread{'s' if machine['threads'] != 1 else ''}"
    lanes = machine["side_by_side"]
    beside = f", {lanes} runs side by side" if lanes > 1 else ""
    return (
        '<div class="wide"><table><thead><tr><th scope="col">Recipe</th><th scope="col">Training</th>'
        '<th scope="col">CPU time</th><th scope="col">Steps</th><th scope="col">Examples a second</th>'
        f'<th scope="col">Peak memory</th><th scope="col" class="text">Parameters</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        f'<p class="note">Means over seeds, on {escape(device)}{beside}; the peak is that of the whole '
        "process, data included.</p>" + (f"<h3>Failed runs</h3><ul>{failures}</ul>" if failures else "")
    )


def _duration(seconds: float) -> str:
    return (
        f"{number(seconds)} s"
        if seconds < 120
        else f"{seconds / 60:.1f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def _data(results: dict[str, Any]) -> str:
    data = results["data"]
    shape = " × ".join(map(str, data["shape"]))
    kind = f"{data['modality']} of shape {shape}" + (f", {len(data['classes'])} classes" if data["classes"] else "")
    notes = "".join(f"<li>{escape(note)}</li>" for note in [kind, *data["notes"]])
    skipped = ""
    if data["skipped"]:
        items = "".join(f"<li>{escape(name)}: {escape(reason)}</li>" for name, reason in data["skipped"][:200])
        more = f"<li>and {len(data['skipped']) - 200} more</li>" if len(data["skipped"]) > 200 else ""
        skipped = (
            f"<details><summary>{len(data['skipped'])} files were left out</summary><ul>{items}{more}</ul></details>"
        )
    return f'<ul>{notes}</ul>{skipped}<p class="note">Fingerprint <code>{escape(data["fingerprint"])}</code></p>'


def _again(results: dict[str, Any]) -> str:
    judged, machine, names = results["judged"], results["machine"], list(results["recipes"])
    arguments = dict.fromkeys(a for name in names for a in results["recipes"][name])
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    rows = ""
    for argument in arguments:
        cells = "".join(
            f"<td>{escape(_setting(results['recipes'][name][argument]))}</td>"
            if argument in results["recipes"][name]
            else '<td class="soft">–</td>'
            for name in names
        )
        rows += f'<tr><th scope="row"><code>{escape(argument)}</code></th>{cells}</tr>'
    accuracy = judged["features_accuracy"]
    right = f", {accuracy:.1%} right on held-out data" if accuracy is not None else ""
    looked = (
        f" Judged in the features of: {escape(judged['features'])} <code>{escape(judged['features_fingerprint'])}</code>"
        f"{right}. Numbers with another fingerprint of the features cannot be compared with these."
        if judged["features"]
        else ""
    )
    versions = ", ".join(f"{key} {machine[key]}" for key in ("amalgan", "torch", "numpy", "python", "system"))
    return (
        f"<pre><code>{escape(results['command'])}</code></pre>"
        f'<p class="note">Seeds {escape(", ".join(map(str, results["seeds"])))}.{looked}<br>'
        f"{escape(versions)}.</p>"
        '<details open><summary>Settings</summary><div class="wide"><table class="settings"><thead><tr>'
        f'<th scope="col">Argument</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div></details>'
    )


def _setting(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _rules(results: dict[str, Any]) -> str:
    return (
        f"<ol>{''.join(f'<li>{escape(rule)}</li>' for rule in rules(_modality(results)))}</ol>"
        if len(results["recipes"]) > 1
        else ""
    )


# Small things


def _modality(results: dict[str, Any]) -> Modality:
    return modalities.of(results["data"]["modality"])


def _shown(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The run that is shown of each recipe: of the first seed on which all recipes finished, else its own first."""
    done = [run for run in results["runs"] if run["outcome"] == "done"]
    of_seed = {seed: {r["recipe"] for r in done if r["seed"] == seed} for seed in results["seeds"]}
    names = {run["recipe"] for run in done}
    common = next((seed for seed, having in of_seed.items() if having == names), None)
    found = {}
    for name in results["recipes"]:
        mine = [run for run in results["runs"] if run["recipe"] == name]
        mine.sort(key=lambda run: (run["outcome"] != "done", run["seed"] != common))
        found[name] = mine[0]
    return found


STYLE = """
:root{--paper:#fcfbf8;--card:#fff;--ink:#1c1d21;--soft:#6a6d75;--line:#e4e1d9;--warn:#9a5b00;--warnbg:#fdf3e0;
--r0:#2f62c9;--r1:#c8581c;--r2:#12807a;--r3:#9a3f92;--r4:#7a6a10;--r5:#b0304a;--real:#8a8d94}
@media(prefers-color-scheme:dark){:root{--paper:#15161a;--card:#1c1e23;--ink:#e9e7e2;--soft:#9b9ea6;--line:#30333a;
--warn:#f0bb6a;
--warnbg:#2b2418;--r0:#7ea6ff;--r1:#ff9a5c;--r2:#4cc9bd;--r3:#dd8ed6;--r4:#d3be4a;--r5:#ff7f95;--real:#8a8d94}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0 auto;padding:3.5rem clamp(1.1rem,4vw,3rem) 4rem;max-width:1240px;background:var(--paper);
color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","Noto Sans",Arial,sans-serif;
font-variant-numeric:tabular-nums}
h1,h2,.answer{font-family:Charter,"Bitstream Charter","Iowan Old Style","Palatino Linotype",Georgia,"Noto Serif",
serif;
font-weight:600;letter-spacing:-.01em;text-wrap:balance}
h1{font-size:clamp(2rem,4.6vw,3.4rem);line-height:1.1;margin:.2em 0 .35em;max-width:22em}
h2{font-size:1.75rem;line-height:1.2;margin:0 0 .6rem}
h3{font-size:1rem;margin:2rem 0 .3rem}
p{margin:.4em 0}
a{color:inherit}
.kicker{margin:0;font-size:.8rem;letter-spacing:.09em;text-transform:uppercase;color:var(--soft)}
.facts,.lead,.note,.legend,i,small,.soft{color:var(--soft)}
.facts{margin:0 0 2rem}
i{font-style:normal;font-size:.85em}
.lead{max-width:46em;margin:0 0 1.2rem}
.note{font-size:.85rem;max-width:60em;margin:.8rem 0 0}
.cautions{background:var(--warnbg);border-left:3px solid var(--warn);border-radius:0 6px 6px 0;padding:.55rem 1rem;
margin:0 0 1.6rem}
.cautions p{margin:.15em 0}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(270px,1fr));gap:1.1rem}
.cards article{background:var(--card);border:1px solid var(--line);border-top:4px solid var(--c,var(--line));
border-radius:8px;
padding:1rem 1.2rem 1.1rem;font-size:.92rem}
.cards h3{margin:0;font-size:.8rem;font-weight:500;letter-spacing:.02em;color:var(--soft)}
.cards .answer{font-size:1.75rem;line-height:1.15;margin:.1em 0 .35em;color:var(--c,var(--ink))}
.cards ul{margin:.7em 0 0;padding:.7em 0 0;border-top:1px solid var(--line);list-style:none;color:var(--soft);
font-size:.86rem}
.cards li+li{margin-top:.4em}
nav{display:flex;flex-wrap:wrap;gap:.3rem 1.3rem;margin:2.2rem 0 0;padding:.7rem 0;
border-block:1px solid var(--line);font-size:.88rem}
nav a{text-decoration:none;color:var(--soft)}
nav a:hover{color:var(--ink)}
section{padding-top:3.4rem}
footer{margin-top:4rem;padding-top:1rem;border-top:1px solid var(--line);font-size:.85rem;color:var(--soft)}
.r0{--c:var(--r0)}.r1{--c:var(--r1)}.r2{--c:var(--r2)}.r3{--c:var(--r3)}.r4{--c:var(--r4)}.r5{--c:var(--r5)}.real{
--c:var(--real)}
.chip{display:inline-block;width:.62em;height:.62em;border-radius:2px;background:var(--c);margin-right:.45em}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.92rem}
th,td{padding:.5rem .7rem;text-align:right;vertical-align:top;border-bottom:1px solid var(--line);
white-space:nowrap}
th:first-child,td:first-child{padding-left:0}
th[scope=row],th:first-child,.text{text-align:left;font-weight:400}
.text{white-space:normal}
thead th{font-size:.85rem;font-weight:600;vertical-align:bottom;border-bottom:1px solid var(--soft)}
.numbers th[scope=row]{white-space:normal;min-width:19em;width:42%}
.numbers th p{margin:.1em 0 0;font-size:.82rem;line-height:1.4;color:var(--soft)}
.numbers th i{font-size:.82rem}
.group th{padding-top:1.8rem;font-size:.8rem;letter-spacing:.05em;text-transform:uppercase;color:var(--soft)}
.numbers td p{margin:.05em 0 0;font-size:.78rem;line-height:1.4;font-weight:400;color:var(--soft)}
.numbers td abbr{text-decoration:none;opacity:.75}
.best{font-weight:700}
.best small{font-weight:400}
.failed{color:var(--warn)}
figure{margin:0;min-width:0;break-inside:avoid}
figcaption{margin-bottom:.5rem;font-size:.92rem;line-height:1.35}
figcaption p{font-size:.8rem;color:var(--soft);margin:.1rem 0 0}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,240px),1fr));gap:1.6rem 1.4rem}
.figures.broad{grid-template-columns:repeat(auto-fill,minmax(min(100%,340px),1fr))}
.again{margin-top:1.8rem;font-size:.85rem;color:var(--soft)}
.again h3{margin:0;color:var(--ink)}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,310px),1fr));gap:1.8rem 1.8rem}
.numbers{margin-top:1.4rem}
img{display:block;width:100%;height:auto}
.crisp{image-rendering:pixelated}
.clips{display:grid;grid-template-columns:repeat(auto-fill,minmax(78px,1fr));gap:.8rem .5rem;margin:.5rem 0 1rem}
.clip{display:grid;gap:.2rem;justify-items:center;font-size:.85rem}
.clip img{width:100%;image-rendering:auto}
.clip audio{width:100%;height:2.4rem;zoom:.65}
.strips{display:grid;gap:.55rem;max-width:calc(8.5rem + var(--tiles)*92px)}
.strip{display:grid;grid-template-columns:7rem 1fr;align-items:center;gap:.8rem;font-size:.92rem;break-inside:avoid}
.strip+.strip:has(img[alt*=above]){margin-top:.9rem}
.lines{margin:0;padding-left:1.6em;font-size:.85rem;line-height:1.45;overflow-wrap:anywhere}
.lines li::marker{color:var(--soft);font-size:.75em}
.legend{display:flex;gap:1.4rem;margin:0 0 1rem;font-size:.92rem}
svg{display:block;width:100%;height:auto;overflow:visible;font:11px system-ui,-apple-system,"Segoe UI",Roboto,
"Noto Sans",Arial,sans-serif}
svg text.ink{fill:var(--ink);font-size:12px}
svg text.soft{fill:var(--soft)}
svg .line{stroke:var(--line);fill:none}
svg .frame{stroke:var(--line);fill:var(--card)}
svg .dots{stroke:var(--c);stroke-width:2;stroke-linecap:round;stroke-opacity:.4;fill:none}
svg .curve{stroke:var(--c);stroke-width:.8;stroke-opacity:.4;fill:none;stroke-linejoin:round}
svg .curve.mean{stroke-width:2;stroke-opacity:1}
svg .anchor{stroke:var(--soft);stroke-dasharray:2 3;fill:none}
svg .whisker{stroke:var(--c);stroke-width:2;stroke-opacity:.55;stroke-linecap:round}
svg .seed{fill:var(--c);fill-opacity:.35}
svg .mean:not(.curve){fill:var(--c);stroke:var(--paper);stroke-width:1.5}
pre{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.9rem 1.1rem;white-space:pre-wrap;
overflow-wrap:anywhere}
code{font:.88em ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
pre code{font-size:.9rem}
summary{cursor:pointer;margin:1.2rem 0 .4rem;font-weight:600}
.settings{width:auto}
.settings td,.settings th{padding:.22rem 1.6rem .22rem 0}
ul,ol{padding-left:1.2em;max-width:60em}
li{margin:.25em 0}
@media print{:root{--paper:#fff;--card:#fff;--ink:#000;--soft:#555;--line:#ccc;--r0:#2f62c9;--r1:#c8581c;
--r2:#12807a;--r3:#9a3f92;
--r4:#7a6a10;--r5:#b0304a}body{font-size:10pt;max-width:none;padding:0}nav{display:none}section{padding-top:1.6rem}
h2,h3{break-after:avoid}tr,article{break-inside:avoid}.wide{overflow:visible}}
""".replace("\n", "")

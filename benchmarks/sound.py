"""Spoken digits: say the digit, get the sound; and is it that digit, in many ways, and none that was there before?

    fsdd     conditional VAE-GAN, VAE and GAN on log-mel spectrograms of the Free Spoken Digit Dataset, six speakers;
             recordings 0 to 4 of each speaker and digit are the test set; every metric of what is heard, after the way
             back to sound. Two ceilings: real test clips, and the same there and back
    speed    seconds of recordings a second of one core (20 are the least): read, made of one kind, transformed; and the
             way back to sound

Settings were chosen on validation clips with seeds from 100. Each run is a line of docs/results/runs/sound.jsonl.

    python -m benchmarks.sound                 # everything that is not yet done; stopped, it goes on
    python -m benchmarks.sound fsdd
"""

from __future__ import annotations

import time
from functools import cache
from typing import Any

from benchmarks import jobs
from benchmarks.machine import data_folder

TABLES = ("fsdd", "speed")
STEPS, SEEDS = 5800, (0, 1, 2)
LABELS: dict[str, Any] = {"condition": "labels"}
LOUD = {"variance": 0.05}  # of a value of a spectrogram; hiss differs from clip to clip, and no code says how
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "vaegan": ("vaegan", LABELS | LOUD | {"lam": 0.25}),
    "vae": ("vae", LABELS | LOUD),
    "gan": ("gan", LABELS | {"decoder_condition": "embedding"}),
}
PROTOCOL = 1  # raised whenever training or judging changes
OPTIONS = {"label_pattern": "{label}_{speaker}_{take}", "held_out": "0-4"}
METRICS = {  # of the table -> of the judgement
    "label_accuracy": "label_accuracy",
    "tstr": "tstr",
    "distinct": "uniqueness",
    "class_diversity": "class_diversity",
    "inception_score": "inception_score",
    "frechet": "frechet",
    "changed_label": "changed_label",
    "kept_voice": "kept_voice",
    "speaker_leakage": "speaker_leakage",
    "memorisation_features": "memorisation_features",
}
GOALS = {"label_accuracy": 0.9, "tstr": 0.8, "distinct": 0.95}  # of the VAE-GAN
REPEATS = 3


@cache
def opened() -> tuple[Any, Any]:
    """Data, and the real side of the judgement."""
    from amalgan import modalities

    sound = modalities.of("sound")
    data = sound.open(data_folder() / "fsdd" / "recordings.zip", **OPTIONS)
    return data, sound.reference(data, "test", 5000)


def job(row: str, seed: int = 0) -> jobs.Job:
    about = {"protocol": PROTOCOL, "table": "speed" if row == "speed" else "fsdd", "row": row}
    if row not in ROWS:
        return about
    recipe, arguments = ROWS[row]
    return about | {"recipe": recipe, "arguments": arguments, "seed": seed, "steps": STEPS}


def do(job: jobs.Job) -> dict[str, Any]:
    """Train one run and judge it; or what real clips score; or how fast recordings are read."""
    if job["row"] == "speed":
        return speed()
    data, against = opened()
    if job["row"] == "real":
        bounds = {name: [against.seen.floor.get(of), against.seen.ceiling.get(of)] for name, of in METRICS.items()}
        return {"bounds": bounds, "n": against.n, **against.round_trip}
    from amalgan import modalities

    with jobs.trained("sound", data, job) as run:
        seconds = run.log()[-1]["cpu_seconds"]
        prior = "fitted" if run.model.fitted is not None else "standard"
        rows = modalities.of("sound").evaluate(run.model, data, against)
    numbers = {row.metric: row.value for row in rows if row.prior in ("", prior)}
    return {"numbers": numbers, "prior": prior, "training_cpu_seconds": seconds}


def speed() -> dict[str, Any]:
    """The best of some passes over all recordings, and over the way back of the test set; processor's seconds."""
    from amalgan.data import sound
    from amalgan.data.files import open_files
    from amalgan.data.spectrogram import Spectrogram

    path = data_folder() / "fsdd" / "recordings.zip"
    files = open_files(path)
    heard = sum(len(samples) / rate for samples, rate in (sound.read(files.read(i)) for i in range(len(files.names))))
    there, back = [], []
    for _ in range(REPEATS):
        start = time.process_time()
        data = sound.open(path, **OPTIONS)
        there.append(time.process_time() - start)
        transform, x = Spectrogram.from_json(data.spec.details), data.test.tensor()
        start = time.process_time()
        transform.inverse(x)
        back.append(time.process_time() - start)
    return {"there": heard / min(there), "back": len(x) * transform.seconds / min(back), "seconds": heard}


def table(name: str) -> list[Any]:
    """Run what is missing of a table and make its rows."""
    from amalgan.modalities.sound import METRICS as KNOWN
    from amalgan.results import Row

    about = {"command": f"python -m benchmarks.sound {name}"}
    if name == "speed":
        (found,) = jobs.work("sound", [job("speed")], do, processes=1)
        note = f"all {found['seconds']:,.0f} s of the recordings; best of {REPEATS}, processor's seconds"
        ways = {
            "reading": ("there", f"zip to spectrograms in parts; {note}"),
            "sounding": ("back", "Griffin-Lim, 32 turns"),
        }
        return [
            Row(name, row, "times_real", "s/s", "higher", found[key], note=said, **about, **jobs.provenance([found]))
            for row, (key, said) in ways.items()
        ]
    wanted = [job("real"), *(job(recipe, seed) for seed in SEEDS for recipe in ROWS)]
    real, *results = jobs.work("sound", wanted, do)
    about |= {"n": real["n"], **jobs.provenance([real, *results])}
    made = []
    for recipe, (_, arguments) in ROWS.items():
        own = [result for j, result in zip(wanted[1:], results) if j["row"] == recipe]
        for metric, judged in METRICS.items():
            values = [result["numbers"][judged] for result in own if judged in result["numbers"]]
            if not values:
                continue
            found, (floor, ceiling) = jobs.over_seeds(values, own), real["bounds"][metric]
            goal = GOALS.get(metric) if recipe == "vaegan" else None
            short = f"; short of the goal of {goal}" if goal is not None and found["value"] < goal else ""
            note = f"{' '.join(f'{name}={value}' for name, value in arguments.items())}; {STEPS} steps; "
            note += f"{own[0]['prior']} prior; CPU seconds: training of one run{short}"
            made.append(
                Row(
                    name, recipe, metric, KNOWN[judged].unit, KNOWN[judged].better,
                    floor=floor, ceiling=ceiling, note=note, **about | found,
                )
            )  # fmt: skip
    for row, value, note in (
        ("real", real["bounds"]["label_accuracy"][0], "real test clips as they are"),
        ("real-there-and-back", real["round_trip_accuracy"], "real test clips made spectrograms and sound again"),
    ):
        made.append(Row(name, row, "label_accuracy", "share", "higher", value, note=f"{note}; the ceiling", **about))
    error = "mean difference of spectrograms that are 60 dB deep"
    made.append(Row(name, "real-there-and-back", "error", "dB", "lower", real["round_trip_error"], note=error, **about))
    return made


if __name__ == "__main__":
    jobs.publish("sound", __doc__, TABLES, table)

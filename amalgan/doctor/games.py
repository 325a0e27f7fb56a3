"""What can go wrong between two players."""

from __future__ import annotations

import math
from statistics import fmean

from amalgan.doctor.findings import FAILS, HURTS, LOOKS, Finding, History, Remedy, Signal, rounded, times
from amalgan.doctor.steps import fast_steps

ROUNDS = 6  # ways between looks, none of them short, before two players are said to chase each other
HANDFUL = 100  # examples: of so few penalties and augmentation cured no discriminator that knew them by heart


def mode_collapse(run: History) -> Finding | None:
    """All samples are alike, or whole parts of the data never come."""
    diversity = run.of("samples", "diversity", "distance between samples over that between examples")
    missing = run.of("samples", "missing", "share of the data where no sample falls")
    if run.of("code", "use") or not diversity:  # samples of a code are a matter of its prior
        return None
    evidence = {name: run.of("samples", name).now for name in ("diversity", "missing", "duplicates")}
    if diversity.stays(below=0.35):
        return Finding(
            "mode collapse",
            FAILS,
            f"Samples are all alike: they differ by {diversity.now:.0%} of what examples do.{_absent(run)}",
            evidence,
            _against_collapse(run),
            diversity.share(below=0.35),
            diversity,
        )
    # what is still coming back is no collapse
    if missing.stays(above=0.2, looks=LOOKS + 1) and missing.now > 0.8 * missing.values[-LOOKS]:
        return Finding(
            "missing modes",
            HURTS,
            f"{missing.now:.0%} of the data lie where no sample ever falls.{_absent(run)}",
            evidence,
            _against_collapse(run),
            missing.share(above=0.2),
            missing,
        )
    return None


def _absent(run: History) -> str:
    """Which classes samples are hardly ever of, where the data have classes."""
    looks, names = run.vectors("samples", "classes"), run.record["spec"].get("classes", [])
    rare = [name for name, ratio in zip(names, looks[-1][1] if looks else []) if ratio < 0.1]
    shown = ", ".join(rare[:8]) + (f" and {len(rare) - 8} more" if len(rare) > 8 else "")
    return f" Hardly ever made: {shown}." if rare else ""


def _against_collapse(run: History) -> tuple[Remedy, ...]:
    game = {"game": "relativistic", **times(run, 1.0, "r1", "r2", least=1.0)}
    remedies = [
        Remedy(game, "a game that judges samples against data, with slope penalties: it leaves no mode uncovered"),
        Remedy(times(run, 0.3, "lr"), "the generator cannot jump to one answer"),
    ]
    if int(run.arguments.get("latent", 64)) < 8:
        remedies.insert(0, Remedy({"latent": 64}, "a short code bends too little to reach everything"))
    return tuple(remedies)


def strong_discriminator(run: History) -> Finding | None:
    """The discriminator wins every time, by so much that its slope teaches nothing."""
    separation = run.of("verdicts", "separation")
    gap = run.of("verdicts", "real").less(run.of("verdicts", "fake"), "D(data) - D(sample), nats")
    if not (separation.stays(above=0.95) and gap.stays(above=4)) or fast_steps(run):
        return None
    return Finding(
        "the discriminator wins",
        FAILS,
        f"It tells {separation.now:.0%} of samples from data, by {gap.now:.1f} nats: next to no gradient is left for "
        "the generator.",
        {"separation": separation.now, "gap_nats": gap.now},
        (
            Remedy(_steeper(run), "a steeper slope is dearer, so verdicts stay gentle", resumes=True),
            Remedy({"noise": 0.2}, "data and samples overlap, until they do by themselves"),
        ),
        gap.share(above=4),
        gap,
    )


def blind_discriminator(run: History) -> Finding | None:
    """The discriminator cannot tell, though anyone could: mostly because a penalty silences it."""
    separation, coverage = run.of("verdicts", "separation", "P(D(data) > D(sample))"), run.of("samples", "coverage")
    gradients, empty = run.gradients(), Signal()
    slope, game = (
        gradients.get(("discriminator", term, "discriminator"), empty) for term in ("slope", "discriminator")
    )
    loud = slope.over(game, "gradient of the penalty over that of the game")
    silenced = loud.stays(above=30)
    # wide verdicts that are wrong are no blindness
    guesses = separation.stays(below=0.6) and run.of("verdicts", "within").stays(below=1)
    if not coverage.stays(below=0.5) or not (silenced or guesses):
        return None
    why = (
        f"its penalty pulls {loud.now:.0f} times as hard as its game"
        if silenced
        else f"right {separation.now:.0%} of times"
    )
    return Finding(
        "the discriminator is blind",
        FAILS,
        f"It hardly tells data from samples ({why}), though samples reach {coverage.now:.0%} of the data.",
        {"separation": separation.now, "coverage": coverage.now} | ({"penalty_over_game": loud.now} if loud else {}),
        (
            Remedy(_gentler(run, loud.now / 4 if silenced else 10.0), "a cheaper slope lets it speak up", resumes=True),
            Remedy({"critic_steps": 2}, "it gets two turns for each of the generator's"),
        ),
        loud.share(above=30) if silenced else separation.share(below=0.6),
        loud if silenced else separation,
    )


def overfitted_discriminator(run: History) -> Finding | None:
    """The discriminator knows its examples by heart."""
    memory = run.of("verdicts", "memory", "P(D(train) > D(held out))")
    if not memory.stays(above=0.65):
        return None
    augment = Remedy({"augment": "fixed"}, "what it sees is never twice the same", resumes=True)
    by_flags = (
        Remedy(times(run, 10.0, "r1", "r2", least=1.0), "a gentler slope cannot single examples out", resumes=True),
        *([augment] if run.record["spec"]["modality"] == "images" else []),
    )
    more, count = Remedy({}, "give it more data, or stop where the samples are best"), run.of("data", "count")
    hopeless = bool(count) and count.now < HANDFUL
    return Finding(
        "the discriminator overfits",
        HURTS,
        f"It likes {memory.now:.0%} of training examples better than held-out ones: it tells them by heart, not by kind.",
        {"memory": memory.now},
        (more, *by_flags) if hopeless else (*by_flags, more),
        memory.share(above=0.65),
        memory,
    )


def oscillation(run: History) -> Finding | None:
    """Players chase each other: a sample lies here now, there then."""
    places = run.vectors("samples", "at")
    ways = ((step, _rms(now, before)) for (_, before), (step, now) in zip(places, places[1:]))
    moved = Signal(tuple(ways), "way of a sample between looks, in widths of the data")
    late = moved.values[-ROUNDS:]
    # young players move a lot, too, but less and less: on MNIST the fifth or sixth way of healthy runs was short
    if not moved.stays(above=0.18, looks=ROUNDS) or fmean(late[-2:]) < 0.35 * fmean(late[:2]):
        return None
    return Finding(
        "oscillation",
        HURTS,
        f"From look to look a sample moves by {moved.now:.0%} of the data's width, and no less than before.",
        {"moved": moved.now},
        (
            Remedy(_steeper(run), "penalties on the slope damp the chase"),
            Remedy(times(run, 0.3, "lr"), "smaller steps overshoot less"),
        ),
        moved.share(above=0.18),
        moved,
    )


def batch_norm_mixing(run: History) -> Finding | None:
    """What the discriminator says of an example is what the rest of the batch is."""
    alone, mixed = run.of("verdicts", "alone"), run.of("verdicts", "mixed")
    owed = alone.less(mixed)
    apart = Signal(
        tuple((step, abs(value)) for step, value in owed.looks), "separation owed to the batch, or lost by it"
    )
    if not apart.stays(above=0.2):
        return None
    does = (
        "more often than in one: it judges the batch"
        if owed.now > 0
        else "less often than in one: the batch hides them"
    )
    return Finding(
        "batch norm mixes examples",
        HURTS,
        f"Judged in batches of their own, samples are told from data {apart.now:.0%} {does}.",
        {"alone": alone.now, "mixed": mixed.now},
        (Remedy({}, "a discriminator without batch norm: spectral or no normalisation"),),
        apart.share(above=0.2),
        apart,
    )


def ignored_labels(run: History) -> Finding | None:
    """The label changes nothing, or nothing that has to do with it."""
    use = run.of("labels", "use", "change of a sample by the label over that by the noise")
    kept, real, chance = (
        run.of("labels", name, "samples of the class asked for") for name in ("kept", "real", "chance")
    )
    good = run.of("samples", "coverage")
    hardly = chance.now + 0.25 * (real.now - chance.now) if kept else 0.0
    wrong = bool(kept) and real.now > chance.now + 0.3 and kept.stays(below=hardly)
    if not use.stays(below=0.02) and not (wrong and good.stays(above=0.05)):
        return None
    remedy = Remedy({}, "tell the discriminator the labels, too")
    if float(run.arguments.get("hidden", 0)) > 0.5:
        remedy = Remedy({"hidden": 0.1}, "labels that are seldom seen are seldom learned")
    told = (
        f"{kept.now:.0%} of samples are of the class that was asked for; by chance it would be {chance.now:.0%}."
        if wrong
        else f"Another label changes a sample by {use.now:.1%} of what other noise does."
    )
    return Finding(
        "labels are ignored",
        FAILS,
        told,
        {"use": use.now} | ({"kept": kept.now, "real": real.now} if kept else {}),
        (remedy,),
        kept.share(below=hardly) if wrong else use.share(below=0.02),
        kept if wrong else use,
    )


def _steeper(run: History) -> dict[str, float]:
    """Ten times the slope penalties; at least 1."""
    return times(run, 10.0, "r1", "r2", least=1.0)


def _gentler(run: History, factor: float) -> dict[str, float]:
    """Every slope penalty of a run that many times weaker."""
    names = [name for name in ("r1", "r2", "gradient_penalty") if float(run.arguments.get(name, 0)) > 0]
    return {name: rounded(float(run.arguments[name]) / factor) for name in names}


def _rms(a: list[float], b: list[float]) -> float:
    return math.sqrt(fmean((p - q) ** 2 for p, q in zip(a, b)))

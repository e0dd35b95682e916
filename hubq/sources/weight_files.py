"""Which files of a folder are the model: those that transformers reads, and no others.

Beside a model lie adapters, copies in other formats, the index of an older save. The file
model.safetensors comes first, then its index, then pickles; what transformers would not find by
these names, such as one file of another name, is taken where nothing else is there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from hubq.errors import UserError
from hubq.machine.files import read_object
from hubq.records.run_folder import ADAPTER_CONFIG

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLE = "pytorch_model.bin"
PICKLE_INDEX = "pytorch_model.bin.index.json"
PICKLES = ("*.bin", "*.pth", "*.pt", "*.ckpt")
# What is never the model: adapters, copies in the layouts of other programs, states of a training.
OTHERS = (
    "adapter_*",
    "consolidated*",
    "training_args.*",
    "optimizer.*",
    "scheduler.*",
    "rng_state*",
    "scaler.*",
)


@dataclass(frozen=True)
class WeightFiles:
    """The files that hold a model, and the other weights beside them."""

    names: tuple[str, ...]
    pickled: bool
    usual: bool  # transformers finds these files too, and reads nothing else beside them
    listed: frozenset[str]  # the tensors that an index lists, if one says which files it is
    others: tuple[str, ...]  # files of weights that are left alone


def weight_files(folder: Path) -> WeightFiles:
    """Choose a folder's weights as transformers does; raise UserError where there are none."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder")
    there = sorted(path.name for path in folder.iterdir())
    pickled = False
    names, listed = _safetensors(folder, there)
    if not names:
        names, listed = _pickles(folder, there)
        pickled = bool(names)
    if not names:
        raise UserError(f"{folder} has no .safetensors files and no {PICKLE}: {_kinds(there)}")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder} lacks {missing[0]} ({len(missing)} of {len(names)} files missing). "
            "Download the model again."
        )
    usual = SINGLE in names or (bool(listed) and not pickled and _is_described(folder / INDEX))
    usual = usual and ADAPTER_CONFIG not in there  # with it peft changes what transformers loads
    others = [name for name in there if is_weights(name) and name not in names]
    return WeightFiles(names, pickled, usual, listed, tuple(others))


def _safetensors(folder: Path, there: list[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    if SINGLE in there:
        return (SINGLE,), frozenset()
    if INDEX in there:
        return _of_index(folder / INDEX)
    found = [name for name in there if name.endswith(".safetensors") and not _is_other(name)]
    return tuple(found), frozenset()


def _pickles(folder: Path, there: list[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    if PICKLE in there:
        return (PICKLE,), frozenset()
    return _of_index(folder / PICKLE_INDEX) if PICKLE_INDEX in there else ((), frozenset())


def _of_index(path: Path) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the files of an index and the tensors that it lists."""
    listed = read_object(path).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise UserError(
            f"{path} has no weight_map of tensors, so it is not an index: download it again"
        )
    odd = [name for name in listed.values() if not isinstance(name, str) or Path(name).name != name]
    if odd:
        raise UserError(f"{path} names {str(odd[0])[:100]}, which is not a file in its folder")
    return tuple(sorted(set(listed.values()))), frozenset(listed)


def _is_described(index: Path) -> bool:
    """Tell whether an index has metadata, without which transformers reads none."""
    return isinstance(read_object(index).get("metadata"), dict)


def _is_other(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in OTHERS)


def is_weights(name: str) -> bool:
    """Tell whether a file holds weights, or says where they are."""
    kinds = ("*.safetensors", "*.gguf", *PICKLES)
    return name in (INDEX, PICKLE_INDEX) or any(fnmatch(name, kind) for kind in kinds)


def _kinds(there: list[str]) -> str:
    """Say what is there instead of a model."""
    found = list(_instead(there))
    return "; ".join(found) or "download its weights too"


def _instead(there: list[str]) -> Iterator[str]:
    if any(name.startswith("adapter_") for name in there):
        yield "it is an adapter; merge it into its base (peft's merge_and_unload), and save that"
    if any(name.endswith(".gguf") for name in there):
        yield "name its .gguf file as the model instead"
    if any(name.startswith("consolidated") for name in there):
        yield "it has the layout of its maker's own code; use the version for transformers"
    elif any(fnmatch(name, kind) for kind in PICKLES for name in there):
        yield "its pickles have other names than transformers gives them"

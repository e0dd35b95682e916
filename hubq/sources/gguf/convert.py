"""GGUF files: known by their metadata, and turned once into a folder of bfloat16 safetensors."""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from hubq.errors import UserError
from hubq.machine.files import alone_with, cache_folder, require_space
from hubq.machine.progress import Progress, quiet
from hubq.records.recipe_inputs import ModelSection
from hubq.sources.base_card import base_card, with_front_matter
from hubq.sources.gguf.config import WAY_OUT, config_of
from hubq.sources.gguf.files import Gguf, is_copied, open_gguf, place_alone, place_weights
from hubq.sources.gguf.weights import places, prove
from hubq.sources.shards import TensorInfo
from hubq.sources.source import Source
from hubq.sources.tokenizer import SAMPLE, tokenizer_of

# By the architectures of `gguf_config.CLASSES`, as transformers' AutoTokenizer chooses.
TOKENIZERS = {
    "llama": "TokenizersBackend",
    "qwen2": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
}
READING = 2  # goes up when a file is read otherwise: what was made before is not taken then


def converted(sha256: str) -> Path:
    """Return where the folder made from a GGUF file lies, or will lie."""
    return cache_folder("models") / f"{sha256}-{READING}"


def look_up(model: ModelSection, path: Path, identity: str) -> Source:
    """Read a GGUF file's metadata and derive the model that transformers makes of it.

    Raises UserError unless each tensor has its place in that model and each place its tensor.
    """
    gguf = open_gguf(path)
    config, shapes = _skeleton(gguf)
    places(gguf, shapes, config["num_hidden_layers"])
    card = _general(gguf)
    return Source(
        section=model,
        identity=identity,
        config=config,
        tensors={name: _bfloat16(shape) for name, shape in shapes.items()},
        base_model=model.base_model,
        license=model.license or card.get("license"),
        card=base_card(card),
    )


def tokenizer_in(path: Path) -> tuple[int, bool]:
    """Return how many tokens a file's own tokenizer has, and whether it has a chat template."""
    metadata = open_gguf(path).metadata
    tokens, template = metadata.get("tokenizer.ggml.tokens"), "tokenizer.chat_template"
    return len(tokens) if isinstance(tokens, list) else 0, bool(metadata.get(template))


def _general(gguf: Gguf) -> dict[str, Any]:
    """Return what the file says of itself as a card would: its license and its languages."""
    named = {"license": "general.license", "language": "general.languages"}
    found = {key: gguf.metadata.get(name) for key, name in named.items()}
    return {key: value for key, value in found.items() if value and isinstance(value, str | list)}


def _skeleton(gguf: Gguf) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Return config.json and the tensors' shapes as the finished folder will have them."""
    from transformers import AutoModelForCausalLM

    config = config_of(gguf)
    with torch.device("meta"), quiet():
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    tied = set(model.all_tied_weights_keys)
    shapes = {
        name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if name not in tied
    }
    values: dict[str, Any] = config.to_dict()
    return values | {"architectures": [type(model).__name__], "dtype": "bfloat16"}, shapes


def _bfloat16(shape: tuple[int, ...]) -> TensorInfo:
    return TensorInfo("model.safetensors", "BF16", shape, 0, 2 * math.prod(shape))


def convert(path: Path, source: Source, progress: Progress) -> Path:
    """Make the folder of safetensors, tokenizer included, unless it is there already.

    What transformers read is compared with the file, tensor by tensor, before the folder is kept.
    """
    folder = converted(source.identity.removeprefix("sha256:"))
    if not folder.is_dir():
        with alone_with(folder, progress):
            if not folder.is_dir():
                _convert(path, folder, source, progress)
    return folder


def _convert(path: Path, folder: Path, source: Source, progress: Progress) -> None:
    gguf = open_gguf(path)
    needed = sum(info.end - info.begin for info in source.tensors.values())
    copied = gguf.bytes if is_copied(gguf) else 0
    require_space(folder.parent, needed + copied, f"{path.name} as safetensors")
    with tempfile.TemporaryDirectory(
        dir=folder.parent, prefix="converting-", ignore_cleanup_errors=True
    ) as unfinished:
        made = Path(unfinished) / "made"
        made.mkdir()
        with progress.task(f"Converting {path.name}", 3) as advance:
            for step in _steps(gguf, source, Path(unfinished), made):
                advance(step)
        if not folder.is_dir():  # another process may have been faster, where there are no locks
            shutil.copymode(folder.parent, made)
            os.rename(made, folder)


def _steps(gguf: Gguf, source: Source, room: Path, made: Path) -> Iterator[int]:
    """Make the folder in three steps, the last of which proves it."""
    config = config_of(gguf)
    with _reading(gguf.path):
        _save_tokenizer(place_alone(gguf, room), made, gguf, config)
        yield 1
        weights = place_weights(gguf, room)
        with _one_table():
            _save_model(weights, made, config)
        weights.unlink()
        yield 1
    shapes = {name: info.shape for name, info in source.tensors.items()}
    prove(gguf, places(gguf, shapes, config.num_hidden_layers), made, config)
    # The file's own license: what a recipe says holds for that recipe alone.
    if general := _general(gguf):
        (made / "README.md").write_text(with_front_matter(general, ""))
    yield 1


def _save_model(path: Path, folder: Path, config: Any) -> None:  # noqa: ANN401
    from transformers import AutoModelForCausalLM, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        path.parent,
        config=config,
        gguf_file=path.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
        trust_remote_code=False,
    )
    model.save_pretrained(folder)
    _drop(folder / "config.json", "_model_name_or_path")


@contextmanager
def _one_table() -> Iterator[None]:
    """Have the gguf library make its table of names once: transformers asks for each module."""
    import gguf

    make = gguf.get_tensor_name_map
    gguf.get_tensor_name_map = cache(make)
    try:
        yield
    finally:
        gguf.get_tensor_name_map = make


def _save_tokenizer(path: Path, folder: Path, gguf: Gguf, config: Any) -> None:  # noqa: ANN401
    """Save the tokenizer and make sure that it is the file's."""
    import transformers

    # AutoTokenizer would choose the same, after it has read the whole file for its architecture.
    tokenizer = getattr(transformers, TOKENIZERS[config.model_type]).from_pretrained(
        path.parent, gguf_file=path.name, trust_remote_code=False
    )
    tokenizer.model_max_length = config.max_position_embeddings
    tokenizer.save_pretrained(folder)
    _drop(folder / "tokenizer_config.json", "is_local", "local_files_only")
    saved = tokenizer_of(folder)
    back = saved.decode(saved(SAMPLE, add_special_tokens=False).input_ids)
    if back != SAMPLE:
        raise UserError(
            f"the tokenizer of {gguf.path} does not reproduce text: {SAMPLE!r} -> {back!r}.\n"
            f"{WAY_OUT}"
        )
    for name in ("bos_token_id", "eos_token_id"):
        written = gguf.metadata.get(f"tokenizer.ggml.{name}")
        if written is not None and getattr(saved, name) != written:
            raise UserError(
                f"{gguf.path}: its {name} is {written}, but "
                f"transformers reads it as {getattr(saved, name)}.\n"
                f"{WAY_OUT}"
            )


def _drop(path: Path, *keys: str) -> None:
    """Remove what says something of this machine and nothing of the model."""
    values = json.loads(path.read_bytes())
    kept = {key: value for key, value in values.items() if key not in keys}
    path.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say of which file it is that transformers has no reader for what stands there."""
    try:
        with quiet():
            yield
    except (ValueError, KeyError, NotImplementedError) as error:
        raise UserError(
            f"{path}: transformers can't read it ({type(error).__name__}: {error}).\n{WAY_OUT}"
        ) from error

"""GGUF files: known by their metadata, and turned once into a folder of bfloat16 safetensors."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubq.base_card import base_card
from hubq.cache import cache_folder
from hubq.disk import require_space
from hubq.errors import UserError
from hubq.progress import Progress
from hubq.quiet import quiet
from hubq.recipe_inputs import ModelSection
from hubq.shards import TensorInfo

if TYPE_CHECKING:
    from gguf import GGUFReader

    from hubq.source import Source

# Digits, capitals, runs of spaces, line ends, accents, other scripts, an emoji.
SAMPLE = "A llama costs 1,234.50 in 2024:\n\n\tit's  Señor Ñandú's, 北京, 🦙!"
# Metadata that bends the rotary positions; transformers' reader knows none of it.
ROPE_SCALING = (".rope.scaling.type", ".rope.scaling.factor", ".rope.scale_linear")


def converted(sha256: str) -> Path:
    """Return where the folder made from a GGUF file lies, or will lie."""
    return cache_folder("models") / sha256


def look_up(model: ModelSection, path: Path, identity: str) -> "Source":
    """Read a GGUF file's metadata and derive the model that transformers makes of it."""
    from hubq.source import Source

    reader = _reader(path)
    _refuse_scaled_positions(path, reader)
    config, shapes = _skeleton(path)
    return Source(
        section=model,
        identity=identity,
        config=config,
        tensors={name: _bfloat16(shape) for name, shape in shapes.items()},
        base_model=model.base_model,
        license=model.license or _text(reader, "general.license"),
        card=base_card(_general(reader)),
    )


def tokenizer_in(path: Path) -> tuple[int, bool]:
    """Return how many tokens a file's own tokenizer has, and whether it has a chat template."""
    reader = _reader(path)
    tokens = reader.get_field("tokenizer.ggml.tokens")
    return len(tokens.data) if tokens else 0, bool(_text(reader, "tokenizer.chat_template"))


def _reader(path: Path) -> "GGUFReader":
    from gguf import GGUFReader

    try:
        return GGUFReader(path)
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise UserError(f"{path} is truncated or no GGUF file: {error}. Download it again") from (
            error
        )


def _general(reader: "GGUFReader") -> dict[str, Any]:
    """Return what the file says of itself as a card would: its licence and its languages."""
    named = reader.get_field("general.languages")
    known = {
        "license": _text(reader, "general.license"),
        "language": None if named is None else named.contents(),
    }
    return {key: value for key, value in known.items() if value}


def _text(reader: "GGUFReader", key: str) -> str | None:
    field = reader.get_field(key)
    return None if field is None else str(field.contents())


def _refuse_scaled_positions(path: Path, reader: "GGUFReader") -> None:
    """Refuse what would silently become another model."""
    scaled = any(tensor.name == "rope_freqs.weight" for tensor in reader.tensors)
    kinds = [_text(reader, key) for key in reader.fields if key.endswith(ROPE_SCALING)]
    if scaled or any(kind not in (None, "none", "1.0", "0.0") for kind in kinds):
        raise UserError(
            f"{path} scales its rotary positions (Llama 3.1 and later do), which is lost when a "
            "GGUF is read.\nName the model by its Hub id or a folder of safetensors instead."
        )


def _skeleton(path: Path) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Return config.json and the tensors' shapes as the finished folder will have them."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with _reading(path):
        config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    tied = set(model.all_tied_weights_keys)
    shapes = {
        name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if name not in tied
    }
    values: dict[str, Any] = config.to_dict()
    return values | {"architectures": [type(model).__name__], "dtype": "bfloat16"}, shapes


def _bfloat16(shape: tuple[int, ...]) -> TensorInfo:
    size = 2
    for length in shape:
        size *= length
    return TensorInfo("model.safetensors", "BF16", shape, 0, size)


def convert(path: Path, source: "Source", progress: Progress) -> Path:
    """Make the folder of safetensors, tokenizer included, unless it is there already."""
    import yaml

    folder = converted(source.identity.removeprefix("sha256:"))
    if folder.is_dir():
        return folder
    needed = sum(info.end - info.begin for info in source.tensors.values())
    require_space(folder.parent, needed, f"{path.name} as safetensors")
    with tempfile.TemporaryDirectory(
        dir=folder.parent, prefix="converting-", ignore_cleanup_errors=True
    ) as unfinished:
        with progress.task(f"Converting {path.name}", 2) as advance, _reading(path):
            _save_tokenizer(path, Path(unfinished), source.config)
            advance(1)
            _save_model(path, Path(unfinished))
            advance(1)
            # The file's own licence: what a recipe says holds for that recipe alone.
            if general := _general(_reader(path)):
                (Path(unfinished) / "README.md").write_text(f"---\n{yaml.safe_dump(general)}---\n")
        if not folder.is_dir():  # another process may have been faster
            shutil.copymode(folder.parent, unfinished)
            os.rename(unfinished, folder)
    return folder


def _save_model(path: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(folder)
    _drop(folder / "config.json", "_model_name_or_path")


def _save_tokenizer(path: Path, folder: Path, config: Any) -> None:  # noqa: ANN401
    """Save the tokenizer and make sure that it is the file's."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    tokenizer.model_max_length = config["max_position_embeddings"]
    tokenizer.save_pretrained(folder)
    _drop(folder / "tokenizer_config.json", "is_local", "local_files_only")
    saved = AutoTokenizer.from_pretrained(folder)
    back = saved.decode(saved(SAMPLE, add_special_tokens=False).input_ids)
    if back != SAMPLE:
        raise UserError(f"the tokenizer of {path} does not bring text back: {SAMPLE!r} -> {back!r}")
    for name in ("bos_token_id", "eos_token_id"):
        written = _reader(path).get_field(f"tokenizer.ggml.{name}")
        if written is not None and getattr(saved, name) != written.contents():
            raise UserError(
                f"{path}: its {name} is {written.contents()}, transformers makes it "
                f"{getattr(saved, name)}; use the model's Hub id instead"
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
            f"{path}: transformers can't read it ({type(error).__name__}: {error}).\n"
            "Name the model by its Hub id or a folder of safetensors instead."
        ) from error

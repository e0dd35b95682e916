"""A folder's tokenizer: loaded in this one place, from its files alone, without running its code.

A repo may carry a tokenizer that is a program (`auto_map`). hubq reads models of strangers, so it
never runs one: without `trust_remote_code=False` transformers would ask on the terminal.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hubq.errors import UserError
from hubq.machine.progress import quiet

# Digits, capitals, runs of spaces, line ends, accents, other scripts, an emoji.
SAMPLE = "A llama costs 1,234.50 in 2024:\n\n\tit's  Señor Ñandú's, 北京, 🦙!"
PANIC = "pyo3_runtime"  # whose PanicException, of Rust, is no Exception of Python
FAST = "tokenizer.json"
SENTENCEPIECE = ("tokenizer.model", "spiece.model")
LIBRARIES = ("sentencepiece", "google.protobuf")  # what turns such a model into a tokenizer


def tokenizer_of(folder: Path) -> Any:  # noqa: ANN401 - transformers carries no types
    """Load the tokenizer of a model's folder and try it; raise UserError where that fails."""
    from transformers import AutoTokenizer

    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            tokenizer(SAMPLE)
    # The tokenizers library raises Exception itself for a file that it can't parse, or panics, and
    # transformers raises whatever its first wrong guess at a stranger's file leads to.
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__module__ != PANIC:
            raise
        raise UserError(_why_not(folder, error)) from error
    return tokenizer


def _why_not(folder: Path, error: BaseException) -> str:
    """Say why a folder has no usable tokenizer, and the way out."""
    if "custom code" in str(error):
        return _is_a_program(folder)
    bare = [name for name in SENTENCEPIECE if (folder / name).is_file()]
    if bare and not (folder / FAST).is_file() and not all(map(_is_installed, LIBRARIES)):
        return (
            f"{folder} has only {bare[0]} as its tokenizer, which needs two libraries that are "
            "not installed; pip install sentencepiece protobuf, then run again"
        )
    said = (str(error).strip() or type(error).__name__).partition("\n")[0][:300]
    return (
        f"{folder} has no tokenizer that transformers can read ({type(error).__name__}: {said}); "
        "put the base model's tokenizer.json and tokenizer_config.json into a copy of the model, "
        "and name that folder"
    )


def _is_a_program(folder: Path) -> str:
    """Say the way out of a tokenizer that comes with code of its own."""
    says = (
        f"{folder} has a tokenizer with code of its own (auto_map), and hubq does not "
        "run code from models; "
    )
    if (folder / FAST).is_file():
        return (
            f"{says}its {FAST} is enough once auto_map is deleted from tokenizer_config.json: do "
            "so in a copy of the model, and name that folder"
        )
    return f"{says}name another model, or a copy of this one with a {FAST} in its place"


def _is_installed(name: str) -> bool:
    """Tell whether a module can be imported; one within a package that isn't there can't."""
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False

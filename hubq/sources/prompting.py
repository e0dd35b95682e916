"""How a model wants to be asked: its chat template and its settings for sampling, for the card.

Both are read from the written folder, and compared with the base's file by file.
"""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from hubq.errors import UserError
from hubq.machine.files import sha256_of
from hubq.records.checkpoint import Prompting
from hubq.sources.auxiliary_files import CHAT_TEMPLATES, TOKENIZER_FILES
from hubq.sources.chat_template import ChatTemplateError, laid_out, template_of
from hubq.sources.tokenizer import tokenizer_of

QUESTION = "What is a llama?"
DATE = "26 Jul 2024"  # what templates that tell the date show, so that it is the same on every day
SAMPLING = (
    "do_sample",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "max_new_tokens",
)


def prompting(folder: Path, base: Path) -> Prompting:
    """Read a written folder, and compare its tokenizer's files with those of its base."""
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in (*map(folder.joinpath, TOKENIZER_FILES), *folder.glob(CHAT_TEMPLATES))
        if path.is_file()
    )
    same = [name for name in names if _is_same(folder / name, base / name)]
    template, example = _template(folder)
    return Prompting(
        template=None if template is None else sha256(template.encode()).hexdigest(),
        example=example,
        sampling=_sampling(folder),
        same=tuple(same),
        changed=tuple(name for name in names if name not in same),
    )


def _is_same(path: Path, other: Path) -> bool:
    return other.is_file() and sha256_of(path) == sha256_of(other)


def _template(folder: Path) -> tuple[str | None, str | None]:
    """Return the text of the chat template and what it makes of one question."""
    try:
        tokenizer = tokenizer_of(folder)
        template = template_of(tokenizer)
    except UserError:
        return None, None  # evaluate stops at a model without a tokenizer that works
    if template is None:
        return None, None
    question = {"role": "user", "content": QUESTION}
    try:
        return template, laid_out(tokenizer, [question], variables={"date_string": DATE})
    except ChatTemplateError:
        return template, None  # a template that wants more than a question


def _sampling(folder: Path) -> dict[str, Any]:
    """Pick from generation_config.json what bears on how answers are drawn."""
    path = folder / "generation_config.json"
    settings = json.loads(path.read_bytes()) if path.is_file() else {}
    return {key: settings[key] for key in SAMPLING if settings.get(key) is not None}

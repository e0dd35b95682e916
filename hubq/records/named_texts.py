"""The data that recipes call by a name: where each lies, and the one way in which it is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Purpose = Literal["calibration", "evaluation"]
BLANK_LINE = "\n\n"
CALIBRATION_DOCUMENTS = 10_000  # training splits can be larger than the machine
ALL = None


@dataclass(frozen=True)
class NamedText:
    """A text that papers name, and how hubq reads it."""

    title: str
    repo: str
    files: Mapping[Purpose, str]
    field: str
    between: str
    first: Mapping[Purpose, int | None]  # documents
    revision: str | None = None
    most: int | None = ALL  # tokens that are evaluated
    conversations: bool = False  # its field holds lists of messages, which calibrate


NAMED_TEXTS: Mapping[str, NamedText] = {
    "wikitext2": NamedText(
        title="WikiText-2",
        repo="Salesforce/wikitext",
        files={
            "calibration": "wikitext-2-raw-v1/train-00000-of-00001.parquet",
            "evaluation": "wikitext-2-raw-v1/test-00000-of-00001.parquet",
        },
        field="text",
        between=BLANK_LINE,
        first={"calibration": ALL, "evaluation": ALL},
    ),
    # The newer of the two loaders in use: documents in their order, not random crops.
    "c4": NamedText(
        title="C4",
        repo="allenai/c4",
        files={
            "calibration": "en/c4-train.00000-of-01024.json.gz",
            "evaluation": "en/c4-validation.00000-of-00008.json.gz",
        },
        field="text",
        between=" ",
        first={"calibration": CALIBRATION_DOCUMENTS, "evaluation": 1100},
        most=256 * 2048,
    ),
    # The repo's own branch holds a script; the Hub's conversion holds the same rows as files.
    "ptb": NamedText(
        title="Penn Treebank",
        repo="ptb-text-only/ptb_text_only",
        files={
            "calibration": "penn_treebank/train/0000.parquet",
            "evaluation": "penn_treebank/test/0000.parquet",
        },
        field="sentence",
        between=" ",
        first={"calibration": ALL, "evaluation": ALL},
        revision="refs/convert/parquet",
    ),
    "ultrachat": NamedText(
        title="UltraChat 200k",
        repo="HuggingFaceH4/ultrachat_200k",
        files={
            "calibration": "data/train_sft-00000-of-00003-a3ecf92756993583.parquet",
            "evaluation": "data/test_sft-00000-of-00001-f7dfac4afe5b93f4.parquet",
        },
        field="messages",
        between=BLANK_LINE,
        first={"calibration": CALIBRATION_DOCUMENTS, "evaluation": ALL},
        conversations=True,
    ),
}
TEXTS = tuple(name for name, each in NAMED_TEXTS.items() if not each.conversations)

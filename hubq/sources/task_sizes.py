"""How much a task lets a model read and write, to foretell how long it takes.

Of our tasks the tokens were counted with SmolLM2's tokenizer, each that items share once, as they
are read; of lm-eval's and of those on pictures the items are those of the data sets, and the tokens
are rough.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Size(NamedTuple):
    """What a whole task takes."""

    items: int
    tokens: float  # an item: its question and all its answers, without examples
    written: float = 0.0  # tokens an item that the model writes
    members: int = 1  # tasks of a group, each of which a limit counts for


UNKNOWN = Size(1000, 100)
SEEN = 2000  # tokens of a picture with its question, about, where it is cut into tiles
SIZES: Mapping[str, Size] = {
    "hubq_bbq": Size(1012, 57, members=2),
    "hubq_bbq_ambiguous": Size(515, 41),
    "hubq_bbq_disambiguated": Size(497, 79),
    "hubq_boolq": Size(3270, 130),
    "hubq_commonsenseqa": Size(1215, 40),
    "hubq_logiqa": Size(1000, 246),
    "hubq_mmlu": Size(2850, 88),
    "hubq_openbookqa": Size(500, 19),
    "hubq_piqa": Size(1500, 32),
    "hubq_siqa": Size(1954, 32),
    "hubq_xsum": Size(1000, 450, written=60),
    "hubq_charts": Size(300, SEEN, written=4),
    "hubq_choices": Size(300, 4 * SEEN, written=8),
    "hubq_diagrams": Size(300, SEEN, written=2),
    "hubq_documents": Size(300, SEEN, written=8),
    "hubq_yes_no": Size(300, 2 * SEEN, written=4),
    "ai2d": Size(3088, SEEN, written=2),
    "arc_challenge": Size(1172, 60),
    "arc_easy": Size(2376, 50),
    "bbq": Size(58492, 60),
    "chartqa": Size(2500, SEEN, written=4, members=2),
    "docvqa": Size(5349, SEEN, written=8),
    "gsm8k": Size(1319, 900, written=200),
    "hellaswag": Size(10042, 160),
    "ifeval": Size(541, 60, written=600),
    "mmlu": Size(14042, 90, members=57),
    "mmbench_en_dev": Size(1164, 3.7 * SEEN, written=7),
    "mme": Size(1187, 2 * SEEN, written=4, members=14),
    "piqa": Size(1838, 60),
    "winogrande": Size(1267, 50),
}


def tokens_of(task: str, limit: int | None) -> tuple[float, float]:
    """Return about how many tokens a task lets a model read, and how many it has it write."""
    size = SIZES.get(task, UNKNOWN)
    items = min(size.items, (limit or size.items) * size.members)
    return items * size.tokens, items * size.written

r"""What becomes of data and of generated text in our tasks: items, labels and scores.

Options are one string, "A. first\nB. second", and the answer is one of these lines. None stands
for a line that doesn't parse so: it is no item.

Generated text is scored against a reference: ROUGE for summaries, BLEU for Chinese.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from hubq.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

FLORES = "openlanguagedata/flores_plus"
FLORES_FILES = {"english": "devtest/eng_Latn.parquet", "chinese": "devtest/cmn_Hans.parquet"}
# How BBQ's third answer says that the text doesn't tell, in all its spellings.
UNKNOWN = frozenset(
    {
        *("Unknown", "Undetermined", "Not known", "Not answerable", "Not enough info"),
        *("Not enough information", "Cannot answer", "Cannot be determined"),
        *("Can't answer", "Can't be determined"),
    }
)
Raw = Mapping[str, Any]  # a line of a file
Row = dict[str, Any]  # question, perhaps passage; choices; gold, the right choice's index
ROUGE = ("rouge1", "rouge2", "rougeL")


def labelled(rows: "Dataset") -> "Dataset":
    """Keep the rows of SNLI that have a label: -1 stands for annotators who disagree."""
    return rows.filter(lambda row: row["label"] >= 0)


def flores(**metadata: object) -> "DatasetDict":
    """Put the English and the Chinese sentences of FLORES+ side by side, by their id."""
    from datasets import DatasetDict, load_dataset

    both = load_dataset(FLORES, data_files=FLORES_FILES)
    chinese = dict(zip(both["chinese"]["id"], both["chinese"]["text"], strict=True))
    english = both["english"].select_columns(["id", "text"]).rename_column("text", "english")
    if set(english["id"]) != set(chinese):
        raise UserError(
            f"{FLORES}: the English and the Chinese devtest have different ids, so its sentences "
            "can't be paired; leave flores200 out, or use an older revision"
        )
    return DatasetDict({"test": english.add_column("chinese", [chinese[i] for i in english["id"]])})


def lettered(options: object) -> list[str]:
    """Return the texts of options that are lettered in order; nothing where they are malformed."""
    if not isinstance(options, str):
        return []
    pieces = re.split(r"(?:^|\n)([A-Z])\. ", options)
    letters, choices = pieces[1::2], [choice.strip() for choice in pieces[2::2]]
    in_order = letters == [chr(ord("A") + index) for index in range(len(choices))]
    return choices if in_order and not pieces[0] and len(choices) > 1 and "" not in choices else []


def chosen(raw: Raw) -> Row | None:
    """Read a row with lettered options, or None where they or the answer are malformed."""
    choices = lettered(raw.get("options"))
    answer = re.fullmatch(r"([A-Z])\. (.*)", str(raw.get("answer")), flags=re.DOTALL)
    if answer is None or not raw.get("question"):
        return None
    gold, text = ord(answer.group(1)) - ord("A"), answer.group(2).strip()
    if gold >= len(choices) or choices[gold] != text:
        return None
    return {"question": raw["question"], "choices": choices, "gold": gold}


def about_a_passage(raw: Raw) -> Row | None:
    """Read a row with a passage before its question."""
    row = chosen(raw)
    return {**row, "passage": raw["passage"]} if row and raw.get("passage") else None


def yes_or_no(raw: Raw) -> Row | None:
    """Read a row of BoolQ, or None where its answer is neither True nor False."""
    complete = raw.get("question") and raw.get("passage")
    if not complete or raw.get("answer") not in ("True", "False"):
        return None
    return {
        "question": raw["question"],
        "passage": raw["passage"],
        "choices": ["no", "yes"],
        "gold": int(raw["answer"] == "True"),
    }


def biased(raw: Raw) -> Row | None:
    """Read a row of BBQ, where one of three choices is that the text doesn't tell."""
    choices, answers = lettered(raw.get("options")), raw.get("answer")
    right = str(answers[0]).strip() if isinstance(answers, list) and len(answers) == 1 else None
    unknown = [choice for choice in choices if choice in UNKNOWN]
    complete = raw.get("question") and raw.get("passage")
    if not complete or len(choices) != 3 or len(unknown) != 1 or right not in choices:
        return None
    return {
        "question": raw["question"].partition("\n")[0],  # an instruction follows
        "passage": raw["passage"],
        "choices": choices,
        "gold": choices.index(right),
        "ambiguous": right in unknown,
    }


def summarized(raw: Raw) -> Row | None:
    """Read a document with its summary."""
    row = {name: str(raw.get(name) or "").strip() for name in ("document", "summary")}
    return row if all(row.values()) else None


def xsum(doc: Mapping[str, str], results: Sequence[str]) -> dict[str, float]:
    """Score the summary of one document of XSum."""
    return rouge(doc["summary"], results[0])


def cnn_dailymail(doc: Mapping[str, str], results: Sequence[str]) -> dict[str, float]:
    """Score the summary of one article of CNN/DailyMail."""
    return rouge(doc["highlights"], results[0])


def rouge(reference: str, summary: str) -> dict[str, float]:
    """Return the F measures of ROUGE-1, 2 and L on stemmed words, each in [0, 1]."""
    found = _scorer().score(reference, summary)
    return {name: float(found[name].fmeasure) for name in ROUGE}


@cache
def _scorer() -> Any:  # noqa: ANN401 - rouge_score carries no types
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(ROUGE), use_stemmer=True)


def chinese_bleu(pairs: Sequence[Sequence[str]]) -> float:
    """Return corpus BLEU in [0, 100] of (reference, translation) pairs, by Chinese characters."""
    from sacrebleu import corpus_bleu

    references, translations = zip(*pairs, strict=True)
    return float(corpus_bleu(translations, [references], tokenize="zh").score)

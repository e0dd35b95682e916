"""Data sets of the Hub in the form that our tasks want, read from plain files."""

from typing import TYPE_CHECKING

from hubq.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

FLORES = "openlanguagedata/flores_plus"
FLORES_FILES = {"english": "devtest/eng_Latn.parquet", "chinese": "devtest/cmn_Hans.parquet"}


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
            f"{FLORES}: the English and the Chinese devtest have other ids, so its sentences can't "
            "be paired; leave flores200 out, or use an older revision"
        )
    return DatasetDict({"test": english.add_column("chinese", [chinese[i] for i in english["id"]])})

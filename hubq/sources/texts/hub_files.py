"""Which files of a Hub data set are a subset and split: as its card says, else by their paths.

The rules are those of the `datasets` library, as far as files of text go: `configs` of the card
with `data_files`, `data_dir` and `default`; without them the words in paths; and without such
words all is one split, `train`. What a card says was written by a stranger: a pattern only chooses
among the names that the repo lists, and matching takes time in proportion to both.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from hubq.errors import UserError
from hubq.sources.texts.documents import SUFFIXES, form_of
from hubq.sources.texts.lines import PACKED

WHOLE = "train"  # what a data set without splits is called
UNSPLIT = ""  # the split of its files, where others have names
SPLITS: Mapping[str, Sequence[str]] = {  # and the words that stand for them in paths
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
BEST_FIRST = (".parquet", ".jsonl", ".json", ".csv", ".tsv", ".txt")
ABOUT = re.compile(r"(?:^|/)(?:\.|dataset_infos?\.json$|dataset_dict\.json$|requirements\.txt$)")
SHARD = re.compile(r"(?:^|/)([\w.]+)-\d{5}-of-\d{5}[^/]*$")
PATTERNS = 200  # that a card may list for a subset
LISTED = 10


class Pinned(NamedTuple):
    """A data set at one commit, and what it holds."""

    repo: str
    commit: str
    names: Sequence[str]
    configs: Any  # `configs` in the metadata of its card, whatever that is
    license: str | None = None  # as its card names it


class Chosen(NamedTuple):
    """The files of a split."""

    split: str
    files: list[str]


Patterns = dict[str, list[str]]  # by split


def files_of(
    pinned: Pinned, subset: str | None, split: str | None, *, default: str = WHOLE
) -> Chosen:
    """Choose the files of a subset and split; `default` is the split where none is named.

    Raises UserError with what there is to choose from.
    """
    readable = sorted(name for name in pinned.names if form_of(name) and not ABOUT.search(name))
    if not readable:
        raise UserError(_nothing_readable(pinned))
    names, patterns = _described(pinned, readable, subset)
    splits = _by_path(names) if patterns is None else _by_card(names, patterns)
    wanted = split or (WHOLE if UNSPLIT in splits else default)
    files = splits.get(UNSPLIT if UNSPLIT in splits and wanted == WHOLE else wanted, [])
    if patterns is None:
        files = files or [name for name in names if _has_word(name, [wanted])]
        files = _one_kind(pinned, files) if files else []
    if not files:
        raise UserError(_no_split(pinned, subset, wanted, sorted(splits)))
    return Chosen(wanted, files)


def _by_card(names: Sequence[str], patterns: Patterns) -> dict[str, list[str]]:
    """Return the files that the card lists for each split."""
    found = {split: _matching(names, some) for split, some in patterns.items()}
    return {split: files for split, files in found.items() if files}


def _described(
    pinned: Pinned, readable: Sequence[str], subset: str | None
) -> tuple[list[str], Patterns | None]:
    """Return the files among which a subset's are, and what the card says of its splits."""
    if not pinned.configs:
        return _in_folder(pinned, readable, subset), None
    config = _config(pinned, subset)
    folder = config.get("data_dir") or ""
    if not isinstance(folder, str):
        raise UserError(_odd_card(pinned))
    folder = _as_folder(folder)
    inside = [name for name in readable if name.startswith(folder)]
    listed = _patterns(pinned, config.get("data_files"))
    if listed is None:
        return inside, None
    return inside, {split: [folder + each for each in some] for split, some in listed.items()}


def _config(pinned: Pinned, subset: str | None) -> Mapping[str, Any]:
    """Return what the card says of a subset, or of the one that it calls its default."""
    configs = pinned.configs
    if not isinstance(configs, list) or not all(isinstance(each, dict) for each in configs):
        raise UserError(_odd_card(pinned))
    by_name: dict[str, Mapping[str, Any]] = {
        str(each.get("config_name", "default")): each for each in configs
    }
    usual = [name for name, each in by_name.items() if each.get("default") is True]
    usual += [name for name in by_name if name == "default" or len(by_name) == 1]
    name = subset or (usual[0] if usual else None)
    if name is None or name not in by_name:
        known = ", ".join(sorted(by_name)[:LISTED])
        raise UserError(f"{pinned.repo}: name its `subset`; there are {known}")
    return by_name[name]


def _as_folder(path: str) -> str:
    """Return how the names of files below a folder begin."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return "".join(f"{part}/" for part in parts)


def _patterns(pinned: Pinned, listed: Any) -> Patterns | None:  # noqa: ANN401
    """Read `data_files` in any of its spellings."""
    if not listed:
        return None
    if isinstance(listed, dict):
        pairs = list(listed.items())
    elif isinstance(listed, list) and all(isinstance(each, dict) for each in listed):
        pairs = [(each.get("split", WHOLE), each.get("path")) for each in listed]
    else:
        pairs = [(UNSPLIT, listed)]
    found: dict[str, list[str]] = {}
    for split, paths in pairs:
        some = [paths] if isinstance(paths, str) else paths
        if not isinstance(some, list) or not all(isinstance(each, str) for each in some):
            raise UserError(_odd_card(pinned))
        found.setdefault(str(split), []).extend(each.removeprefix("./") for each in some)
    every = [each for some in found.values() for each in some]
    if len(every) > PATTERNS or any("://" in each for each in every):
        raise UserError(_odd_card(pinned))
    return found


def _matching(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """Return the names that one of the patterns fits."""
    exact = set(patterns)
    globs = [each for each in patterns if any(sign in each for sign in "*?[")]
    return [name for name in names if name in exact or any(fits(name, each) for each in globs)]


def fits(name: str, pattern: str) -> bool:
    """Tell whether a path fits a pattern, in which ** stands for any number of folders."""
    parts = name.split("/")
    reached = {0}  # how many parts are accounted for so far
    for piece in pattern.split("/"):
        if piece == "**":
            reached = set(range(min(reached), len(parts) + 1))
        else:
            reached = {
                at + 1 for at in reached if at < len(parts) and fnmatchcase(parts[at], piece)
            }
        if not reached:
            return False
    return len(parts) in reached


def _in_folder(pinned: Pinned, readable: Sequence[str], subset: str | None) -> list[str]:
    """Return the files of a subset where the card says nothing: a folder."""
    inside = [name for name in readable if subset is None or _is_in(name, subset)]
    if not inside:
        raise UserError(f"{pinned.repo} has no subset {subset}; {_folders(readable)}")
    return inside


def _by_path(names: Sequence[str]) -> dict[str, list[str]]:
    """Tell splits apart by what stands before the numbers of their parts, else by words."""
    sharded: dict[str, list[str]] = {}
    for name in names:
        if part := SHARD.search(name):
            sharded.setdefault(part.group(1), []).append(name)
    if sharded:
        return sharded
    found = {
        split: files
        for split, words in SPLITS.items()
        if (files := [name for name in names if _has_word(name, words)])
    }
    return found or {UNSPLIT: list(names)}


def _is_in(name: str, folder: str) -> bool:
    """Tell whether a file lies in a folder, named by its path or a part of it; . is the top."""
    above = str(PurePosixPath(name).parent)
    return above == folder or above.startswith(f"{folder}/") or folder in above.split("/")


def _has_word(name: str, words: Iterable[str]) -> bool:
    either = "|".join(map(re.escape, words))
    return re.search(rf"(?:^|[/._-])(?:{either})(?:[/._-]|$)", name) is not None


def _one_kind(pinned: Pinned, names: Sequence[str]) -> list[str]:
    """Keep the files of the best form, all of one folder."""
    forms = {form_of(name) for name in names}
    best = next(form for form in BEST_FIRST if form in forms)
    kept = [name for name in names if form_of(name) == best]
    if len({PurePosixPath(name).parent for name in kept}) > 1:
        raise UserError(f"{pinned.repo}: name the `subset` (a folder); {_folders(kept)}")
    return kept


def _folders(names: Iterable[str]) -> str:
    """Name the folders to choose from; . is the top one."""
    found = sorted({str(PurePosixPath(each).parent) for each in names})
    return f"there are {', '.join(found[:LISTED])}"


def _no_split(pinned: Pinned, subset: str | None, split: str, known: Sequence[str]) -> str:
    """Say which splits there are in place of the one that is not."""
    of = f" of subset {subset}" if subset else ""
    if not known:
        return (
            f"{pinned.repo}: its card lists no file{of} that exists and that hubq reads; download "
            "the file that you want and name its path, such as ./file.jsonl"
        )
    first = ", ".join(each or WHOLE for each in known[:LISTED])
    return f"{pinned.repo} has no split {split}{of}; set `split` to one that it has: {first}"


def _nothing_readable(pinned: Pinned) -> str:
    """Say why a data set has no files for hubq, and the way out."""
    if any(name.endswith(".py") for name in pinned.names):
        return (
            f"{pinned.repo} is a loading script, and hubq does not run code from data sets; try "
            f"{pinned.repo}@refs/convert/parquet, the Hub's own conversion"
        )
    there = ", ".join(each[:60] for each in pinned.names[:5]) or "nothing"
    return (
        f"{pinned.repo} holds {there}, but no file that hubq reads ({', '.join(SUFFIXES)}, also "
        f"packed as {' and '.join(PACKED)}); name another data set, or convert its files"
    )


def _odd_card(pinned: Pinned) -> str:
    return (
        f"{pinned.repo}: its card lists `configs` in a way that hubq does not read; download the "
        "file that you want and name its path, such as ./file.jsonl"
    )

"""Conversations to calibrate on, each by itself, as the model's chat template lays it out.

They are those of a data set's first rows, spread evenly over them: the first of each stretch, or
one that a seed draws. Where that can't be used (a template may refuse it, or it is too short to
tell anything), what follows in the data set takes its place. Each is tokenized as a whole and cut
at its end.
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.files import sha256_of
from hubq.records.named_texts import CALIBRATION_DOCUMENTS
from hubq.sources.chat_template import template_of
from hubq.sources.instructions.layouts import as_a_whole
from hubq.sources.instructions.pairs import bounded, in_file, no_form
from hubq.sources.instructions.rows import Pair, form_in, form_of
from hubq.sources.instructions.tokens import laid
from hubq.sources.texts.find import file_of
from hubq.sources.texts.first_rows import first_fields
from hubq.sources.texts.hub import fetched, located
from hubq.sources.tokenizer import tokenizer_of

if TYPE_CHECKING:
    from hubq.records.recipe_calibration import CalibrationDataset, CalibrationSection

SHORTEST = 16  # tokens; a shorter conversation is little more than its template
TOO_SHORT = f"fewer than {SHORTEST} tokens"
SHOWN = 12  # digits of a template's digest


class Conversations(NamedTuple):
    """Conversations as tokens, and what a report says of them."""

    ids: list[list[int]]  # of each, no more than the windows' length
    text: str


def require_conversations(dataset: "CalibrationDataset", samples: int, client: Client) -> None:
    """Raise UserError for a data set that isn't there, has other fields, or too few conversations.

    Of one on the Hub a file's beginning or schema is looked at.
    """
    forms = [form_in(dataset.speaks_in)]
    if dataset.name is None and dataset.hub is None:
        path, title = file_of(dataset)
        left_out: Counter[str] = Counter()
        usable = sum(1 for _ in islice(in_file(path, left_out, forms), samples))
        if usable < samples:
            raise too_few(title, usable, samples, left_out)
        return
    there = located(dataset, client, purpose="calibration")
    if dataset.name is None:  # those with names are known
        fields = first_fields(there.pinned, there.files[0], client)
        if fields is not None and form_of(fields, forms) is None:
            raise no_form(f"{there.files[0]} of {there.pinned.repo}", fields, forms)


def conversations(
    dataset: "CalibrationDataset", section: "CalibrationSection", folder: Path, client: Client
) -> Conversations:
    """Return `samples` conversations of a data set as tokens of the model in a folder.

    Raises UserError where there are fewer, or the model has no chat template.
    """
    tokenizer = tokenizer_of(folder)
    template = template_of(tokenizer)
    if template is None:
        raise UserError(
            f"{folder} has no chat template, by which conversations are laid out; calibrate on "
            "text, or name the model's instruct version"
        )
    left_out: Counter[str] = Counter()
    title, version, found = _found(dataset, left_out, client)
    most = max(CALIBRATION_DOCUMENTS, section.samples)
    ordered = _in_order(bounded(islice(found, most), title), section)
    taken: list[list[int]] = []
    for ((_, text),) in laid(ordered, partial(as_a_whole, tokenizer=tokenizer), left_out):
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if len(ids) < min(SHORTEST, section.length):
            left_out[TOO_SHORT] += 1
            continue
        taken.append(ids[: section.length])
        if len(taken) == section.samples:
            break
    else:
        raise too_few(title, len(taken), section.samples, left_out)
    spoken = " and ".join(dataset.speaks_in)
    digest = sha256(template.encode()).hexdigest()[:SHOWN]
    how = f"conversations in {spoken}, by the chat template with sha256 {digest}"
    return Conversations(taken, f"{title}, {version} ({how}{told(left_out)})")


def _found(
    dataset: "CalibrationDataset", left_out: Counter[str], client: Client
) -> tuple[str, str, Iterator[Pair]]:
    """Return a data set's title, its version, and its conversations as they are read."""
    forms = [form_in(dataset.speaks_in)]
    if dataset.name is None and dataset.hub is None:
        path, title = file_of(dataset)
        return title, f"sha256:{sha256_of(path)}", in_file(path, left_out, forms)
    there = located(dataset, client, purpose="calibration")
    files = fetched(there, client)
    found = (pair for path in files for pair in in_file(path, left_out, forms))
    return there.title, f"{there.pinned.repo}@{there.pinned.commit}", found


def _in_order(found: Sequence[Pair], section: "CalibrationSection") -> Iterator[Pair]:
    """Yield one conversation of each stretch, then the others in their order."""
    step = max(1, len(found) // section.samples)
    begin = random.Random(section.seed).randrange(step) if section.seed else 0
    chosen = range(begin, len(found), step)[: section.samples]
    yield from (found[each] for each in chosen)
    yield from (pair for number, pair in enumerate(found) if number not in chosen)


def too_few(
    title: str,
    usable: int,
    samples: int,
    left_out: Counter[str],
    what: str = "conversations",
) -> UserError:
    """Say how many conversations there are."""
    way_out = f"use samples: {usable}, or more data" if usable else "name other data"
    return UserError(
        f"calibration: {title} has {usable:,} usable {what}, and samples: {samples} are "
        f"asked for{told(left_out)}; {way_out}"
    )


def told(reasons: Counter[str]) -> str:
    """Say how many rows were left out for which reason; nothing where there were none."""
    return "".join(f", {count:,} with {why} left out" for why, count in reasons.items() if count)

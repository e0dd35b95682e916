"""Pictures with text to calibrate on, each laid out by the model's chat template.

They are the first of a data set that can be used; a seed draws which rows come first. A picture
stands before the first question. A window that would end within a picture is left out, and other
text is cut at its end. Pictures are those of strangers: what isn't read is counted by its reason.
"""

from collections import Counter
from collections.abc import Mapping
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.records.named_texts import CALIBRATION_DOCUMENTS
from hubq.sources.auxiliary_files import DATE
from hubq.sources.chat_template import ChatTemplateError, laid_out, template_of, with_places
from hubq.sources.instructions.conversations import SHOWN, told, too_few
from hubq.sources.instructions.layouts import REFUSED
from hubq.sources.instructions.shown_pictures import QUESTION, Shown, found_in
from hubq.sources.instructions.tokens import TRIES
from hubq.sources.processor import processor_of, seen

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from hubq.records.recipe_calibration import CalibrationDataset, CalibrationSection


NO_PLACE = "no place for the picture in what the chat template makes of it"
MARKED = "the token of a picture in its text"
UNTAKEN = "a picture that the model's processor refuses"


class Sample(NamedTuple):
    """A picture with its text, as tokens."""

    ids: "Tensor"  # (length,) int64, no more than the windows' length
    seen: "Mapping[str, Tensor]"  # what the model is given besides


class Pictured(NamedTuple):
    """Pictures with text as a model reads them, and what a report says of them."""

    samples: list[Sample]
    token: int  # that stands for a part of a picture
    text: str


def with_pictures(
    dataset: "CalibrationDataset",
    section: "CalibrationSection",
    folder: Path,
    client: Client,
    dtype: "torch.dtype",
) -> Pictured:
    """Return `samples` pictures with text as what the model in a folder reads of them.

    Numbers of pictures are in a dtype. Raises UserError where there are fewer, or the model has no
    processor or no chat template.
    """
    processor = processor_of(folder)
    template = template_of(processor.tokenizer)
    if template is None:
        raise UserError(
            f"{folder} has no chat template, by which pictures are asked about; calibrate on text, "
            "or add the base model's chat_template.jinja"
        )
    left_out: Counter[str] = Counter()
    found = found_in(dataset, section.seed, left_out, client)
    samples: list[Sample] = []
    for shown in islice(found.shown(), max(CALIBRATION_DOCUMENTS, section.samples)):
        sample = _sample(processor, shown, section.length)
        if sample == REFUSED and not samples and left_out[REFUSED] == TRIES:
            _prompt(processor, shown)  # raises what the template says
        if isinstance(sample, str):
            left_out[sample] += 1
            continue
        samples.append(_of_dtype(sample, dtype))
        if len(samples) == section.samples:
            break
    else:
        raise too_few(found.title, len(samples), section.samples, left_out, "pictures")
    beside = "" if found.digest is None else f", pictures sha256 {found.digest.hexdigest()[:SHOWN]}"
    digest = sha256(template.encode()).hexdigest()[:SHOWN]
    how = f"pictures with {_said(dataset)}, by the chat template with sha256 {digest}{beside}"
    token: int = processor.tokenizer.convert_tokens_to_ids(processor.image_token)
    return Pictured(samples, token, f"{found.title}, {found.version} ({how}{told(left_out)})")


def _of_dtype(sample: Sample, dtype: "torch.dtype") -> Sample:
    given = {
        name: each.to(dtype) if each.is_floating_point() else each
        for name, each in sample.seen.items()
    }
    return sample._replace(seen=given)


def _said(dataset: "CalibrationDataset") -> str:
    """Say what text is beside the pictures."""
    if dataset.name is not None:
        return "questions"
    if dataset.speaks_in:
        return " and ".join(dataset.speaks_in)
    return f'{dataset.field}, asked "{QUESTION}"'


def _sample(processor: Any, shown: Shown, length: int) -> Sample | str:  # noqa: ANN401 - see there
    """Return what a model reads of a picture and its text, or why it can't."""
    mark = processor.image_token
    if any(mark in turn.content for turn in shown.pair.turns):
        return MARKED
    try:
        prompt = _prompt(processor, shown)
        if prompt.count(mark) != 1:
            return NO_PLACE
        given = seen(processor, [shown.picture], prompt)
    except ChatTemplateError:
        return REFUSED
    except ValueError:
        return UNTAKEN
    ids = given.pop("input_ids")[0]
    places = (ids == processor.tokenizer.convert_tokens_to_ids(mark)).nonzero()
    if not len(places) or int(places[-1]) >= length:
        return f"a picture that ends behind {length:,} tokens"
    given.pop("attention_mask", None)
    return Sample(
        ids[:length],
        {
            name: each[:, :length] if each.shape == (1, len(ids)) else each
            for name, each in given.items()
        },
    )


def _prompt(processor: Any, shown: Shown) -> str:  # noqa: ANN401 - see there
    """Lay a conversation out with its picture before the first question."""
    messages = with_places([turn._asdict() for turn in shown.pair.turns], 1)
    return laid_out(processor.tokenizer, messages, finished=True, variables={"date_string": DATE})

"""The calibration tokens: windows of texts, or of conversations, spread evenly and seeded.

A text becomes windows of equal length; a conversation, or a picture with text, is a window of its
own length, filled up at its right, where causal attention never looks. A picture fills most of its
window, so the tokens of each kind count as much together as the recipe says, however many they are.
"""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.files import alone_with, cache_folder, sha256_of, write_atomically
from hubq.records.recipe_calibration import IMAGE_SHARE, CalibrationDataset, CalibrationSection
from hubq.sources.instructions.conversations import conversations
from hubq.sources.instructions.with_pictures import with_pictures
from hubq.sources.texts.corpus import Corpus
from hubq.sources.texts.find import corpus
from hubq.sources.tokenizer import tokenizer_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CHUNK = 100_000  # characters that one thread tokenizes at a time
OVERLAP = 2_000  # characters that neighbouring chunks share, to find where they agree
AGREEMENT = 16  # tokens in a row that must be equal on both sides of a seam
CHARACTERS = 8  # a token, generously
KEPT = 1  # goes up when a text is cut otherwise
WEIGHTS = (".safetensors", ".bin", ".gguf", ".md")

Token = tuple[int, int, int]  # where it starts and ends in the text, and its id
Seen = Mapping[str, "Tensor"]  # of a picture: what a model is given beside the tokens


@dataclass(frozen=True)
class Tokens:
    """What a model is calibrated on, and what a report says of it."""

    ids: "Tensor"  # (samples, length) int64
    text: str
    # (samples, length) float32: how much each token counts, 0 where a window has ended; None: each
    # of each window, and all alike.
    weights: "Tensor | None" = None
    # Of each window what the model sees, or None; empty where there are no pictures.
    seen: tuple[Seen | None, ...] = ()

    @property
    def count(self) -> int:
        """How many tokens count."""
        return self.ids.numel() if self.weights is None else int((self.weights > 0).sum())


class _Part(NamedTuple):
    """The windows of one data set, and what a report says of it."""

    windows: "Sequence[Tensor]"
    text: str
    seen: Sequence[Seen] = ()  # of each window, where they have pictures
    token: int | None = None  # that stands for a part of a picture


def tokens(
    section: CalibrationSection,
    tokenizer_folder: Path,
    client: Client,
    dtype: "torch.dtype | None" = None,
) -> Tokens:
    """Read the windows of a recipe's calibration: of one text, or of several in turn.

    Of several each has its share of the windows, spread over its own text, and they take turns
    as evenly as their numbers allow; the same section gives the same windows in the same order.
    What is made of pictures is in a dtype, float32 if none is named.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    parts: list[_Part] = []
    for data, samples in section.parts:
        share = section.model_copy(update={"samples": samples})
        parts.append(_part(data, share, tokenizer_folder, client, dtype or torch.float32))
    texts = [each.text for each in parts]
    if section.datasets:
        texts = [f"{len(each.windows)} windows of {each.text}" for each in parts]
    order = _in_turn([len(each.windows) for each in parts])
    every = [window for part in parts for window in part.windows]
    ids = pad_sequence([every[each] for each in order], batch_first=True)
    if not section.speaks:
        return Tokens(ids, "; ".join(texts))
    lengths = torch.tensor([len(every[each]) for each in order])
    there = torch.arange(ids.shape[1]) < lengths[:, None]
    if not section.sees:
        return Tokens(ids, "; ".join(texts), there.float())
    shown: list[Seen | None] = []
    for part in parts:
        shown += part.seen or [None] * len(part.windows)
    seen = tuple(shown[each] for each in order)
    token = next(each.token for each in parts if each.token is not None)
    in_pictures = (ids == token) & torch.tensor([each is not None for each in seen])[:, None]
    weights, told = _weighed(there, there & in_pictures, section.image_share or IMAGE_SHARE)
    return Tokens(ids, "; ".join([*texts, told]), weights, seen)


def _weighed(there: "Tensor", in_pictures: "Tensor", share: float) -> "tuple[Tensor, str]":
    """Weigh tokens so that those of pictures have a share of all weight, and say how.

    All together weigh as many as they are. So a second moment is `share` times that of pictures and
    the rest that of text, each scaled to its count, times the number of tokens.
    """
    whole, pictured = int(there.sum()), int(in_pictures.sum())
    text = whole - pictured
    of_text, of_pictures = (1 - share) * whole / text, share * whole / pictured
    weights = there.float()
    weights[there & ~in_pictures] = of_text
    weights[in_pictures] = of_pictures
    return weights, (
        f"each of the {text:,} tokens of text counts {of_text:.3g}, each of the {pictured:,} of "
        f"pictures {of_pictures:.3g} (image_share {share:g})"
    )


def _part(
    data: CalibrationDataset,
    section: CalibrationSection,
    folder: Path,
    client: Client,
    dtype: "torch.dtype",
) -> _Part:
    """Return the windows of one data set."""
    import torch

    if data.sees:
        found = with_pictures(data, section, folder, client, dtype)
        seen = [each.seen for each in found.samples]
        return _Part([each.ids for each in found.samples], found.text, seen, found.token)
    if data.speaks_in:
        spoken = conversations(data, section, folder, client)
        return _Part([torch.tensor(each) for each in spoken.ids], spoken.text)
    read = corpus(data, client, purpose="calibration")
    whole = _kept(read, folder, section)
    return _Part(list(whole), f"{read.title}, {read.version}")


def _kept(read: Corpus, folder: Path, section: CalibrationSection) -> "Tensor":
    """Return the windows of a text: recipes that share text, settings and tokenizer cut it once."""
    from safetensors.torch import load, save

    text = hashlib.sha256(read.text.encode()).hexdigest()
    versions = [version(name) for name in ("tokenizers", "transformers")]
    asked = [KEPT, text, _tokenizer_digest(folder), versions, section.samples, section.length]
    key = hashlib.sha256(json.dumps([*asked, section.seed]).encode()).hexdigest()
    path = cache_folder("windows") / f"{key}.safetensors"
    with alone_with(path):
        if not path.is_file():
            cut = windows(read.text, folder, section, title=read.title)
            write_atomically(path, save({"ids": cut}))
        return load(path.read_bytes())["ids"]


def _tokenizer_digest(folder: Path) -> str:
    """Return one digest of all files that a tokenizer may be read from: all but weights."""
    files = sorted(each for each in folder.iterdir() if each.is_file())
    read = {each.name: sha256_of(each) for each in files if each.suffix not in WEIGHTS}
    return hashlib.sha256(json.dumps(read).encode()).hexdigest()


def _in_turn(counts: Sequence[int]) -> list[int]:
    """Order windows that stand part after part so that each part is spread evenly over all."""
    places = [
        (Fraction(2 * number + 1, 2 * count), part)
        for part, count in enumerate(counts)
        for number in range(count)
    ]
    return sorted(range(len(places)), key=places.__getitem__)


def windows(
    text: str, tokenizer_folder: Path, section: CalibrationSection, *, title: str = "the text"
) -> "Tensor":
    """Return (samples, length) int64 token ids: one window from each of `samples` stretches.

    The text is tokenized as one stream; window i starts at token (i * step + offset) * length,
    where a stretch is `step` windows long. Seed 0 has offset 0; any other draws one.
    """
    import torch

    ids = token_ids(text, tokenizer_folder)
    available = len(ids) // section.length
    step = available // section.samples
    if step == 0:
        raise UserError(_too_little(len(ids), section, title))
    every = torch.tensor(ids[: available * section.length]).view(available, section.length)
    return every[_offset(section.seed, step) :: step][: section.samples].clone()


def _offset(seed: int, step: int) -> int:
    """Draw which window of its stretch every sample takes."""
    return 0 if seed == 0 else random.Random(seed).randrange(step)


def _too_little(tokens: int, section: CalibrationSection, title: str) -> str:
    """Say how much text there is, and which settings it is enough for."""
    wanted = section.samples * section.length
    fits = tokens // section.length
    way_out = "use a longer text"
    if fits and section.datasets:
        way_out = f"it is enough for {fits}: give it less weight, or {way_out}"
    elif fits:
        way_out = f"use samples: {fits}, or a longer text"
    elif tokens >= section.samples:
        way_out = f"use length: {tokens // section.samples} or less, or a longer text"
    return (
        f"calibration: {title} has {tokens:,} tokens, and {section.samples} windows of "
        f"{section.length} need {wanted:,}; {way_out}"
    )


def token_ids(text: str, tokenizer_folder: Path) -> list[int]:
    """Tokenize a text as one stream, special tokens (if any) only at its ends.

    Long texts are tokenized in overlapping chunks on all cores; the ids are those of one call.
    """
    tokenizer = tokenizer_of(tokenizer_folder)
    if tokenizer.is_fast and len(text) > CHUNK + OVERLAP:
        stream = _stitched(text, tokenizer.backend_tokenizer)
        if stream is not None:
            return _with_specials(stream, text, tokenizer.backend_tokenizer)
    ids: list[int] = tokenizer(text, verbose=False)["input_ids"]
    return ids


def leading_ids(text: str, tokenizer_folder: Path, count: int) -> list[int]:
    """Return the first `count` tokens of a text, or all where it has no more.

    Only as much is tokenized as that takes; what a cut changes lies within an overlap of it.
    """
    length = CHARACTERS * count + OVERLAP
    while length < len(text):
        ids = token_ids(text[:length], tokenizer_folder)
        if len(ids) >= count + OVERLAP:
            return ids[:count]
        length *= 2
    return token_ids(text, tokenizer_folder)[:count]


def _stitched(text: str, backend: Any) -> list[int] | None:  # noqa: ANN401 - see tokenizer.py
    """Tokenize overlapping chunks and join them where they agree; None where two never do.

    A token depends on little of what surrounds it, so past a chunk's edge both neighbours settle
    on the same tokens; a long run of equal ones at equal places is where to join them.
    """
    starts = range(0, len(text), CHUNK)
    chunks = [text[start : start + CHUNK + OVERLAP] for start in starts]
    backend.no_truncation()  # some published tokenizers carry one
    backend.no_padding()
    encodings = backend.encode_batch(chunks, add_special_tokens=False)
    stream: list[Token] = []
    for start, encoding in zip(starts, encodings, strict=True):
        tokens = [
            (start + begin, start + end, token)
            for (begin, end), token in zip(encoding.offsets, encoding.ids, strict=True)
        ]
        seam = _seam(stream[-OVERLAP:], tokens) if stream else (0, 0)
        if seam is None:
            return None
        dropped, skipped = seam
        del stream[len(stream) - dropped :]
        stream += tokens[skipped:]
    return [token for _, _, token in stream]


def _seam(left: Sequence[Token], right: Sequence[Token]) -> tuple[int, int] | None:
    """Return how many tokens to drop at left's end and to skip at right's start, if they agree."""
    place = {token: index for index, token in reversed(list(enumerate(left)))}
    for skipped, token in enumerate(right[:OVERLAP]):
        index = place.get(token)
        if index is None:
            continue
        run = left[index : index + AGREEMENT]
        if len(run) == AGREEMENT and run == right[skipped : skipped + AGREEMENT]:
            return len(left) - index, skipped
    return None


def _with_specials(stream: list[int], text: str, backend: Any) -> list[int]:  # noqa: ANN401
    """Put around a stream what the tokenizer puts around any text."""
    sample = backend.encode(text[:OVERLAP])
    content = [index for index, added in enumerate(sample.special_tokens_mask) if not added]
    before, after = content[0], content[-1] + 1
    ids: list[int] = sample.ids
    return ids[:before] + stream + ids[after:]

"""Runs of a model's decoder: in go batches, out come last hidden states.

A model that is whole in memory runs one batch after the other, each when it is asked for. One whose
blocks lie on the disk (`blocks.py`) is run block by block: all batches pass the first block, then
all the second, so that its weights are read once for all of them. What waits between two blocks
lies in the host's memory, and so does a block's share of the keys and values of a prefix, but for
one block only. transformers makes masks and positions for each block as it does for all of them,
and the batches are the same, so the numbers are, bit for bit.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from hubq.machine.meters import available
from hubq.stages.evaluate.inference.prefixes import PrefixCache

if TYPE_CHECKING:
    from torch import Tensor

    from hubq.stages.evaluate.inference.blocks import BlocksOnDisk

ON_DISK = "blocks_on_disk"  # the attribute in which a model of such blocks has its BlocksOnDisk
WAITING = 4  # one in so many bytes of the host's free memory may hold what waits between blocks


class Run(NamedTuple):
    """One forward pass: rows behind the first tokens of a prefix, or more of the prefix."""

    ids: "Tensor"  # (rows, length)
    positions: "Tensor | None" = None  # (rows, length), or None: one after the other
    sees: "Tensor | None" = None  # (rows, 1, length, behind + length), or None: what was before
    behind: int = 0  # tokens of the prefix
    grows: bool = False  # whether the row, the only one, becomes a part of the prefix


def last_states(model: Any, runs: Iterable[Run]) -> "Iterator[Tensor]":  # noqa: ANN401 - of transformers
    """Yield what goes into the head, (rows, length, hidden), of all runs but those of a prefix.

    `runs` come in such an order that the tokens each is behind are those of the runs before it.
    """
    blocks = getattr(model, ON_DISK, None)
    if blocks is not None:
        for some in _at_once(model, runs):
            yield from _block_by_block(model, blocks, some)
        return
    prefix = PrefixCache(model)
    for run in runs:
        states = _run(model, run, prefix)
        if not run.grows:
            yield states


def _block_by_block(model: Any, blocks: "BlocksOnDisk", runs: list[Run]) -> "Iterator[Tensor]":  # noqa: ANN401
    """Send all runs through one block after the other."""
    waiting: list[Tensor | None] = [None] * len(runs)
    for index in range(blocks.count):
        prefix = PrefixCache(model)
        with blocks.alone(index):
            for number, run in enumerate(runs):
                waiting[number] = _run(model, run, prefix, waiting[number]).cpu()
    for number, run in enumerate(runs):
        states, waiting[number] = waiting[number], None
        if states is not None and not run.grows:
            yield states.to(model.device)


def _run(
    model: Any,  # noqa: ANN401
    run: Run,
    prefix: PrefixCache,
    entering: "Tensor | None" = None,  # (rows, length, hidden): what enters a block but the first
) -> "Tensor":
    """Run a batch through the decoder, or through the one block that is there."""
    prefix.cut(run.behind)
    device = model.device
    given: dict[str, Any] = {"use_cache": False}
    if entering is None:
        given["input_ids"] = run.ids.to(device)
    else:
        given["inputs_embeds"] = entering.to(device)
    if run.positions is not None:
        given["position_ids"] = run.positions.to(device)
    if run.sees is not None:
        given["attention_mask"] = run.sees.to(device)
    if run.grows or prefix.depth:
        given |= {"use_cache": True, "past_key_values": prefix.cache(len(run.ids))}
    states: Tensor = model.get_decoder()(**given).last_hidden_state
    if run.grows:
        prefix.take(given["past_key_values"], run.ids.shape[1])
    return states


def _at_once(model: Any, runs: Iterable[Run]) -> Iterator[list[Run]]:  # noqa: ANN401
    """Divide runs where none goes on from those before, so that what waits fits into memory."""
    width = model.config.get_text_config().hidden_size * model.dtype.itemsize
    room = available("cpu") // WAITING
    some: list[Run] = []
    held = 0
    for run in runs:
        if held > room and not run.behind:
            yield some
            some, held = [], 0
        some.append(run)
        held += run.ids.numel() * width
        held += 0 if run.sees is None else run.sees.nbytes
    if some:
        yield some

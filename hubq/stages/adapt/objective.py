"""The loss of a model's predictions, and its gradient: through the head only where it counts.

Logits are the largest tensor of a training, so they are made of the states that predict a labelled
token, some at a time, and never kept: the gradient of the states is found on the way. The mean of
a batch is over its predicted tokens, however many of its pairs run at once.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hubq.stages.adapt.batches import Rows, pieces, rows
from hubq.stages.plan.adapting_memory import LOGITS

if TYPE_CHECKING:
    from hubq.sources.instructions.tokens import Example


def backward(model: Any, batch: Rows, tokens: int) -> Tensor:  # noqa: ANN401 - of transformers
    """Add the gradients of a batch's summed loss / tokens to the parameters; return that sum."""
    states = _states(model, batch)
    gradient = torch.empty_like(states)
    total = torch.zeros((), device=states.device)
    for some in _slices(model, len(states)):
        piece = states[some].detach().requires_grad_()
        loss = cross_entropy(_logits(model, piece), batch.targets[some], reduction="sum")
        (gradient[some],) = torch.autograd.grad(loss / tokens, piece)
        total += loss.detach()
    states.backward(gradient)  # type: ignore[no-untyped-call] # torch's has no types
    return total


@torch.no_grad()
def mean_losses(model: Any, examples: Sequence["Example"], at_once: int, pad: int) -> Tensor:  # noqa: ANN401
    """Return the mean loss of each pair's predicted tokens, (pairs,) float64, in nats."""
    found = torch.empty(len(examples), dtype=torch.float64)
    by_length = sorted(range(len(examples)), key=lambda number: len(examples[number].ids))
    for numbers in pieces(by_length, at_once):
        batch = rows([examples[number] for number in numbers], pad).to(model.device)
        states = _states(model, batch)
        losses = torch.cat(
            [
                cross_entropy(_logits(model, states[some]), batch.targets[some], reduction="none")
                for some in _slices(model, len(states))
            ]
        )
        means = [each.mean() for each in torch.split(losses.cpu().double(), list(batch.counts))]
        found[numbers] = torch.stack(means)
    return found


def _states(model: Any, batch: Rows) -> Tensor:  # noqa: ANN401
    """Return the last hidden states that predict a labelled token, (n, hidden)."""
    output = model.get_decoder()(input_ids=batch.ids, use_cache=False)
    states: Tensor = output.last_hidden_state
    return states.flatten(0, 1).index_select(0, batch.places)


def _logits(model: Any, states: Tensor) -> Tensor:  # noqa: ANN401
    logits: Tensor = model.get_output_embeddings()(states)
    return logits.float()


def _slices(model: Any, count: int) -> Iterator[slice]:  # noqa: ANN401
    step = max(1, LOGITS // model.config.vocab_size)
    for begin in range(0, count, step):
        yield slice(begin, begin + step)

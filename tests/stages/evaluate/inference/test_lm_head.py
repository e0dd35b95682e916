"""Logits are what a model's own are, whatever comes after its head; or the model is refused."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hubq.errors import UserError
from hubq.machine.progress import SILENT
from hubq.sources.calibration_tokens import token_ids
from hubq.stages.evaluate.distributions import hidden_states, opened
from hubq.stages.evaluate.inference.likelihoods import Scorer
from hubq.stages.evaluate.inference.lm_head import head_from, head_of, require_head
from hubq.stages.evaluate.inference.loading import load
from hubq.stages.evaluate.inference.passes import Passes
from hubq.stages.evaluate.inference.prefixes import Sequence
from hubq.stages.evaluate.jobs import Job
from hubq.stages.evaluate.measurements.divergence import DivergenceTask, divergence
from hubq.stages.evaluate.measurements.hidden import HiddenTask
from hubq.stages.evaluate.measurements.perplexity import PerplexityTask, perplexity
from hubq.stages.evaluate.task import keep_text
from hubq.stages.evaluate.worker import work

CPU: Any = {"device": "cpu", "dtype": "float32"}
PLAIN = ["llama", "llama3.2", "mistral", "qwen2", "qwen3"]
SCALED = ["granite", "cohere", "gemma2"]
TEXT = "The llama went home. It was late, and the road was long. " * 12
LENGTH = 32
HIDDEN = {"dataset": "text", "length": LENGTH, "windows": 4}


@pytest.mark.parametrize("family", [*PLAIN, *SCALED])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_models_whose_config_tells_all_are_taken(
    family: str, dtype: str, tiny_model: Callable[[str], Path]
) -> None:
    folder = tiny_model(family)

    require_head(load(folder, device="cpu", dtype=dtype).model, folder)


@pytest.mark.parametrize("family", SCALED)
def test_what_comes_after_the_head_changes_its_logits(
    family: str, tiny_model: Callable[[str], Path]
) -> None:
    model = load(tiny_model(family), **CPU).model
    ids = torch.arange(LENGTH)[None]

    with torch.inference_mode():
        states = model.get_decoder()(input_ids=ids).last_hidden_state
        logits, made = model(input_ids=ids).logits, head_of(model)(states)
        product = model.get_output_embeddings()(states)

    assert torch.equal(made, logits)
    assert (product - logits).abs().max() > 0.1 * logits.abs().max()


@pytest.mark.parametrize("family", SCALED)
def test_perplexity_is_that_of_the_models_own_logits(
    family: str, tiny_model: Callable[[str], Path]
) -> None:
    folder = tiny_model(family)
    model = load(folder, **CPU).model
    windows = torch.tensor(token_ids(TEXT, folder))[: 4 * LENGTH].view(4, LENGTH)
    losses = [model(input_ids=one[None], labels=one[None]).loss.item() for one in windows]
    task = PerplexityTask(**HIDDEN, version="1", text=keep_text(TEXT))

    (found,) = perplexity(Passes(model, folder), task)

    assert found.value == pytest.approx(math.exp(sum(losses) / 4), rel=1e-5)


@pytest.mark.parametrize("family", SCALED)
def test_likelihoods_are_those_of_the_models_own_logits(
    family: str, tiny_model: Callable[[str], Path]
) -> None:
    folder = tiny_model(family)
    model = load(folder, **CPU).model
    answers = [[40, 41], [40, 50, 60], [70]]
    context = [5, 6, 7, 8]
    sequences = [
        Sequence([*context, *answer[:-1]], answer, at) for at, answer in enumerate(answers)
    ]

    found = {
        each.number: each.value for some in Scorer(model, folder).score(sequences) for each in some
    }

    for number, answer in enumerate(answers):
        assert found[number] == pytest.approx(likelihood(model, context, answer), abs=1e-4)


def likelihood(model: Any, context: list[int], answer: list[int]) -> float:
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*context, *answer]])).logits[0]
    chosen = logits[len(context) - 1 : -1].log_softmax(-1)
    return float(sum(chosen[at, token] for at, token in enumerate(answer)))


@pytest.mark.parametrize("family", SCALED)
def test_distributions_are_kept_with_what_comes_after_the_head(
    family: str, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder, states = tiny_model(family), tmp_path / "states.safetensors"
    model = load(folder, **CPU).model
    hidden = HiddenTask(**HIDDEN, text=keep_text(TEXT))
    task = DivergenceTask(
        **hidden.model_dump(exclude={"kind", "precision"}),
        beside="",
        precision="float32",
        states=states,
        reference=folder,
    )

    hidden_states(Passes(model, folder), hidden, states)

    with torch.inference_mode(), opened(states, folder, model) as reference:
        own = model(input_ids=reference.windows).logits[:, :-1].flatten(0, 1)
        torch.testing.assert_close(reference.logits(0, len(own)), own)
    assert divergence(Passes(model, folder), task).mean.value == 0


def test_a_worker_refuses_a_model_that_does_more_to_its_logits(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaForCausalLM

    forward = LlamaForCausalLM.forward

    def shifted(model: Any, *args: Any, **options: Any) -> Any:
        found = forward(model, *args, **options)
        found.logits = found.logits + torch.arange(found.logits.shape[-1])
        return found

    monkeypatch.setattr(LlamaForCausalLM, "forward", shifted)

    with pytest.raises(UserError, match=r"\(a llama model\) .* the model does more to them"):
        work(Job(folder=tiny_model("llama"), orders=(), **CPU), SILENT)


def test_a_head_of_other_weights_is_refused(tiny_model: Callable[[str], Path]) -> None:
    folder = tiny_model("llama")
    model = load(folder, **CPU).model
    other = head_from(model.get_input_embeddings().weight + 1, model.config)

    with pytest.raises(UserError, match="the head's weights lie elsewhere"):
        require_head(model, folder, other)

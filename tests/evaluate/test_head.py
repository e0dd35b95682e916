"""Models whose logits are more than their head's product are refused before they are measured."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import transformers
from tiny_models import SHARED, tiny_tokenizer

from hubq.errors import UserError
from hubq.evaluate.head import require_plain_head
from hubq.evaluate.jobs import Job
from hubq.evaluate.loading import load
from hubq.evaluate.worker import work
from hubq.progress import SILENT

CPU = {"device": "cpu", "dtype": "float32"}


@pytest.mark.parametrize("family", ["llama", "llama3.2", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_models_like_llama_are_taken(
    family: str, dtype: str, tiny_model: Callable[[str], Path]
) -> None:
    folder = tiny_model(family)

    require_plain_head(load(folder, device="cpu", dtype=dtype).model, folder)


def test_a_worker_refuses_a_model_that_scales_its_logits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.GraniteConfig(**SHARED, logits_scaling=8.0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)

    with pytest.raises(UserError, match=r"\(a granite model\) .* they are scaled, capped"):
        work(Job(folder=tmp_path, orders=(), **CPU), SILENT)


def test_a_head_of_other_weights_is_refused(tiny_model: Callable[[str], Path]) -> None:
    folder = tiny_model("llama")
    model = load(folder, **CPU).model
    other = partial(torch.nn.functional.linear, weight=model.get_input_embeddings().weight + 1)

    with pytest.raises(UserError, match="the head's weights lie elsewhere"):
        require_plain_head(model, folder, other)

"""Factors that a method folded, found again in what it wrote."""

from pathlib import Path

import pytest
import torch
from corrected_model import quantized_run

from hubq.sources.architecture import FAMILIES
from hubq.sources.shards import Weights
from hubq.stages.adapt.folded_factors import FoldedFactors
from hubq.stages.adapt.quantized_modules import QuantizedModules

AWQ = {"name": "awq", "bits": 4, "group_size": 32}
BLOCK = "model.layers.0"


def factors(run: Path, folds: frozenset[str]) -> FoldedFactors:
    base, modules = Weights(run.parent / "base"), QuantizedModules(run / "model")
    return FoldedFactors(BLOCK, FAMILIES["MistralForCausalLM"], base, modules, folds)  # type: ignore[arg-type]


def test_the_factor_behind_a_norm_is_found_exactly(tmp_path: Path) -> None:
    _, run = quantized_run(tmp_path, "mistral", AWQ)

    found = factors(run, frozenset())

    for norm, linear in (
        ("input_layernorm", "self_attn.q_proj"),
        ("post_attention_layernorm", "mlp.gate_proj"),
    ):
        factor = found.columns[linear]
        stored = QuantizedModules(run / "model").read(f"{BLOCK}.{norm}.weight").float()
        base = Weights(run.parent / "base").read(f"{BLOCK}.{norm}.weight").float()
        torch.testing.assert_close(stored * factor, base, rtol=2e-7, atol=0)
        assert not torch.equal(factor, torch.ones_like(factor))
    assert found.rows == {}


def test_the_factor_between_two_linears_is_close_to_what_was_folded(tmp_path: Path) -> None:
    _, run = quantized_run(tmp_path, "mistral", AWQ)

    found, blind = factors(run, frozenset({"linear"})), factors(run, frozenset())

    for last, writer in (
        ("mlp.down_proj", "mlp.up_proj"),
        ("self_attn.o_proj", "self_attn.v_proj"),
    ):
        torch.testing.assert_close(
            found.columns[last] * found.rows[writer], torch.ones(len(found.rows[writer]))
        )
        for linear in (last, writer):
            rounded = QuantizedModules(run / "model").read(f"{BLOCK}.{linear}.weight")
            near, far = (
                (each.weight(linear) - rounded).norm() / rounded.norm() for each in (found, blind)
            )
            assert near < 0.15
            assert far > 1.3 * near


def test_with_grouped_queries_nothing_is_between_v_and_o(tmp_path: Path) -> None:
    _, run = quantized_run(tmp_path, "llama", AWQ)

    found = factors(run, frozenset({"linear"}))

    assert found.rows.keys() == {"mlp.up_proj"}


@pytest.mark.parametrize("bits", [2, 3])
def test_what_was_rounded_away_leaves_a_factor_that_is_positive(bits: int, tmp_path: Path) -> None:
    _, run = quantized_run(tmp_path, "mistral", AWQ | {"bits": bits})

    found = factors(run, frozenset({"linear"}))

    for each in found.columns.values():
        assert each.isfinite().all()
        assert (each > 0).all()

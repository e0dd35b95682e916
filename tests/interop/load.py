"""Load gptq and awq folders of ours with transformers and gptqmodel; compare the logits.

`make interop` runs it in an environment of its own; a folder as argument takes the place of the
tiny random model. Prints a table, and exits with 1 when a model is not the one that was written.
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from quantized_folder import Choice, write
from transformers import AutoModelForCausalLM, AwqConfig, GPTQConfig, LlamaConfig
from transformers.utils.quantization_config import AwqBackend

from hubq.formats import format_named
from hubq.tensors import PER_CHANNEL, Grid

# How much farther than plain bfloat16 the logits may be from those of the dequantized model in
# float32. A wrong layout is off by 100 %; bfloat16 alone by 1 %, on some inputs far more.
BOUND = 2.0


@dataclass(frozen=True)
class Case:
    """What to write, and the kernel to load it with where gptqmodel's own choice fails."""

    form: str
    grid: Grid
    backend: str | None = None

    def __str__(self) -> str:
        rows = self.grid.group_size == PER_CHANNEL
        size = "whole rows" if rows else f"groups of {self.grid.group_size}"
        return f"{self.form}, {self.grid.bits} bits, {size}"


# On a CPU gptqmodel 7.7 chooses a 4-bit kernel that knows groups of 32 to 256 only, and then stops
# at whole rows; its plain torch kernel reads the same files.
CASES = (
    *(Case("gptq", Grid(bits, 64, symmetric=True)) for bits in (2, 3, 4, 8)),
    Case("gptq", Grid(4, PER_CHANNEL, symmetric=True), "gptq_torch"),
    Case("awq", Grid(4, 64)),
    Case("awq", Grid(4, PER_CHANNEL), "torch_awq"),
)
CONFIGS: dict[str, Callable[[Case], object]] = {
    "gptq": lambda case: GPTQConfig(bits=case.grid.bits, backend=case.backend),
    "awq": lambda case: AwqConfig(backend=AwqBackend(case.backend)),
}


def save_random_llama(folder: Path) -> Path:
    """Save a bfloat16 LLaMA with grouped queries, large enough for every kernel."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=4,
    )
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    return folder


def logits(
    folder: Path, dtype: torch.dtype = torch.bfloat16, case: Case | None = None
) -> tuple[torch.Tensor, str]:
    """Return the logits of random tokens, and which kernel a linear runs on."""
    # Not None: that makes transformers 5.23 forget the file's own config and load random weights.
    choice = {"quantization_config": CONFIGS[case.form](case)} if case and case.backend else {}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, device_map="cpu", **choice)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.config.vocab_size, (2, 64), generator=generator)
    with torch.no_grad():
        found = model(tokens).logits.float()
    return found, type(model.model.layers[0].mlp.down_proj).__name__


def relative(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Return ||found - exact|| / ||exact||."""
    return float((found - exact).norm() / exact.norm())


def main(base: Path, root: Path) -> int:
    """Compare every case; return how many failed."""
    failed = 0
    print(f"{'case':<28}{'kernel':<24}{'difference':>12}{'of bfloat16':>13}")
    for number, case in enumerate(CASES):
        folder = root / str(number)
        twin = write(base, folder, Choice(format_named(case.form), case.grid))
        exact, _ = logits(twin, torch.float32)
        noise = relative(logits(twin)[0], exact)
        found, kernel = logits(folder, case=case)
        difference = relative(found, exact)
        failed += not difference < BOUND * noise
        print(f"{case!s:<28}{kernel:<24}{difference:>12.5f}{noise:>13.5f}", flush=True)
    return failed


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        base = Path(sys.argv[1]) if len(sys.argv) > 1 else save_random_llama(root / "base")
        sys.exit(1 if main(base, root) else 0)

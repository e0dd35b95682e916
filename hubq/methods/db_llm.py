"""DB-LLM: each weight is a sum of two binary planes, whose scales are learned from the base.

Chen et al. 2024. Flexible dual binarization writes w = a1 b1 + a2 b2 with b in {0, 1}: the levels
0, a1, a2 and a1 + a2. It starts from a 2-bit grid with the step s, a1 = 2s and a2 = -s, and a
weight takes the nearest level: b1 = [w > (a1 + a2) / 2], b2 = [w - a1 b1 < a2 / 2]. Then both
scales of each group are trained, and the weights through the planes as if these were not rounded,
towards the unquantized model; tokens count by the entropy of its prediction (deviation-aware
distillation).

The authors published no code, and the paper trains the whole model. Here each block is trained by
itself, on its outputs, so that memory does not grow with the model. The start is GPTQ's rounding,
where any zero of a group is two planes too (`dual_binary`). What else was open was chosen on
SmolLM2 with its first three blocks quantized in groups of 64: perplexities on XSum and BoolQ, the
first 16 windows of 512 tokens each; the start alone has 39.41 and 31.14.
- 32 windows, 4 epochs, weight_rate 0.01: 33.28 and 26.20; with 0.005 33.90 and 26.77; with a
  scale_rate of 0.002 33.40 and 26.64.
- The block's own outputs as targets instead of the model's: 33.81 and 26.64.
- `ambiguity: 1`, which is the paper's idea, against 0: 33.29 and 26.78, no gain on blocks' outputs;
  it stays the default because it is the method.
- `relative: 0.5` against 0: 33.17 and 26.34. Kept for tokens whose outputs are thousands of times
  larger than others': 1 gave 33.35 and 26.77.
- 128 windows (relative 0.5, ambiguity 0): 4 epochs 32.47 and 25.64, 10 epochs 31.09 and 24.51;
  4 epochs with weight_rate 0.02 31.15 and 25.57.
An epoch takes about five forward passes over the calibration windows.

On one machine the same recipe gives the same bytes, on a GPU too: the gradients of attention, which
its fast kernels add up in any order, are added up in a fixed one (`_fix_order`).
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from hubq.methods import Group, Holds, Layer, Method, Need, Tuning
from hubq.methods.gptq import GPTQ
from hubq.methods.solvers.sign_planes import DualPlanes, dual_binary, scale_grid
from hubq.tensors import Affine, Binary, QuantizedTensor

SMALLEST_ENERGY = 1e-6  # of a token's outputs, that its error is measured against


class DBLLM(Method):
    """Two binary planes a weight, their scales distilled from the base block by block."""

    title: ClassVar[str] = "DB-LLM"
    paper: ClassVar[str] = "https://arxiv.org/abs/2402.11960"
    bibtex: ClassVar[str] = """@article{chen2024dbllm,
  title = {{DB-LLM}: Accurate Dual-Binarization for Efficient {LLMs}},
  author = {Chen, Hong and Lv, Chengtao and Ding, Liang and Qin, Haotong and Zhou, Xiabin and
            Ding, Yifu and Liu, Xuebo and Zhang, Min and Guo, Jinyang and Liu, Xianglong and
            Tao, Dacheng},
  journal = {arXiv preprint arXiv:2402.11960},
  year = {2024}
}"""
    needs: ClassVar[frozenset[Need]] = frozenset({"gram"})
    holds: ClassVar[Holds] = GPTQ.holds
    tunes: ClassVar[bool] = True

    group_size: int = Field(128, gt=0, description="input columns that share two scales")
    damping: float = Field(
        0.01, gt=0, description="fraction of the mean diagonal that is added to the Hessian"
    )
    epochs: int = Field(10, ge=0, description="passes over the calibration windows, per block")
    batch: int = Field(4, gt=0, description="calibration windows per training step")
    weight_rate: float = Field(0.01, gt=0, description="learning rate of weights, in grid steps")
    scale_rate: float = Field(0.005, gt=0, description="learning rate of scales, in grid steps")
    ambiguity: float = Field(1.0, ge=0, description="exponent of the entropy in a token's weight")
    relative: float = Field(
        0.5, ge=0, description="exponent of a token's output energy, which divides its error"
    )
    targets: Literal["model", "block"] = Field(
        "model",
        description="outputs to learn: the base's on its inputs, or the block's on the same inputs",
    )
    seed: int = Field(0, description="seed for the order of the windows")

    @property
    def remark(self) -> str:
        """Say who built it, and of what."""
        return (
            "The authors of DB-LLM published no code. hubq built it from the paper's description "
            "and chose by measuring what that leaves open: it trains block by block, on the "
            "outputs of each, starts from GPTQ's 2-bit rounding, and stores the scales in 8 bits."
        )

    @property
    def nominal_bits(self) -> float:
        """Two planes of one bit."""
        return 2.0

    @property
    def tuning_epochs(self) -> int:
        """As the option says."""
        return self.epochs

    @property
    def start(self) -> GPTQ:
        """The method that the planes start from."""
        return GPTQ(bits=2, group_size=self.group_size, damping=self.damping)

    def why_unsupported(self, shape: tuple[int, int]) -> str | None:
        """Refuse a group size that leaves a ragged group."""
        return self.start.why_unsupported(shape)

    def sketch(self, shape: tuple[int, int], scale_dtype: torch.dtype) -> Binary:
        """Return the planes without data."""
        out, columns = shape
        scales = Affine.sketch((out, -(-columns // self.group_size)), scale_grid(scale_dtype))
        signs = torch.empty(2, *shape, dtype=torch.bool, device="meta")
        return Binary(signs, (scales, scales), None, self.group_size, unipolar=True)

    def quantize(self, layer: Layer) -> Binary:
        """Start one layer."""
        return self.quantize_group(Group((layer,)))[0]

    def quantize_group(self, group: Group) -> tuple[Binary, ...]:
        """Start the layers that share a Hessian together."""
        return tuple(dual_binary(each) for each in self.start.quantize_group(group))

    def tune(self, block: Tuning) -> Mapping[str, QuantizedTensor]:
        """Train scales and weights of all linears of a block together."""
        planes = {
            name: DualPlanes(start, block.weight(name))
            for name, start in block.quantized.items()
            if isinstance(start, Binary)
        }
        steps = self.epochs * -(-block.windows // self.batch)
        if steps:
            optimizer, schedule = self._optimizer(list(planes.values()), steps)
            for windows in self._epochs(block):
                optimizer.zero_grad()
                with _without_cudnn_attention():
                    loss = self.loss(block, windows, planes)
                _fix_order(loss)
                torch.autograd.backward(loss)
                optimizer.step()
                schedule.step()
        return {name: each.binary() for name, each in planes.items()}

    def _optimizer(
        self, planes: list[DualPlanes], steps: int
    ) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """Return Adam with rates that fall to 0 along half a cosine."""
        optimizer = torch.optim.Adam(
            [
                {"params": [each.latent for each in planes], "lr": self.weight_rate},
                {"params": [each.scales for each in planes], "lr": self.scale_rate},
            ],
            betas=(0.9, 0.95),
            fused=True,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: (1 + math.cos(math.pi * step / steps)) / 2
        )
        return optimizer, schedule

    def _epochs(self, block: Tuning) -> Iterator[Tensor]:
        """Yield the windows of each step, in another order each epoch."""
        random = torch.Generator().manual_seed(self.seed)
        for _ in range(self.epochs):
            yield from torch.split(torch.randperm(block.windows, generator=random), self.batch)
            block.epoch_done()

    def loss(self, block: Tuning, windows: Tensor, planes: Mapping[str, DualPlanes]) -> Tensor:
        """Return the squared error of the block's outputs, each token's as much as it counts."""
        inputs, targets = block.inputs(windows), block.targets(windows)
        if self.targets == "block":
            with torch.no_grad():
                targets = block.forward(inputs, {name: block.weight(name) for name in planes})
        targets = targets.float()
        outputs = block.forward(inputs, {name: each.weight() for name, each in planes.items()})
        errors = (outputs.float() - targets).square().mean(2)  # (windows, length)
        energy = targets.square().mean(2).clamp(min=SMALLEST_ENERGY)
        importance = block.entropy(windows) ** self.ambiguity / energy**self.relative
        if (weights := block.weights(windows)) is not None:
            importance = importance * weights
        return (errors * importance).sum() / importance.sum()


@contextmanager
def _without_cudnn_attention() -> Iterator[None]:
    """Leave attention to torch's own kernels: cuDNN's has no fixed order of its gradients' sums."""
    before: bool = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call] # torch leaves it open
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


def _fix_order(loss: Tensor) -> None:
    """Let attention add up its gradients in a fixed order when the loss is differentiated.

    torch has such kernels, but no switch for them alone; over the whole pass the one for all would
    also ask for an environment variable, because of matrix products.
    """
    seen, waiting = set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [each for each, _ in node.next_functions]
        if "Attention" in node.name():
            node.register_prehook(lambda _: torch.use_deterministic_algorithms(mode=True))
            node.register_hook(lambda *_: torch.use_deterministic_algorithms(mode=False))

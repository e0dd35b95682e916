"""DB-LLM: each weight is a sum of two binary planes, whose scales are learned from the base.

Chen et al. 2024. Flexible dual binarization writes w = a1 b1 + a2 b2 with b in {0, 1}: the levels
0, a1, a2 and a1 + a2. It starts from a 2-bit grid with the step s, a1 = 2s and a2 = -s, and a
weight takes the nearest level: b1 = [w > (a1 + a2) / 2], b2 = [w - a1 b1 < a2 / 2]. Then both
scales of each group are trained, and the weights through the planes as if these were not rounded,
towards the unquantized model; tokens count by the entropy of its prediction (deviation-aware
distillation).
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from hubq.method import Group, Layer, Method, Need, Tuning
from hubq.methods.gptq import GPTQ
from hubq.tensors import SMALLEST_SCALE, Affine, Binary, Grid, QuantizedTensor, Values, values

SCALE_BITS = 8
MARGIN = 0.05  # of a step: how far inside of its level's range a weight begins


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
    tunes: ClassVar[bool] = True
    remark: ClassVar[str] = (
        "The authors of DB-LLM published no code. hubq built it from the paper's description and "
        "chose by measuring what that leaves open: it trains block by block, starts from GPTQ's "
        "2-bit rounding, and stores the scales in 8 bits."
    )

    group_size: int = Field(128, gt=0, description="input columns that share two scales")
    damping: float = Field(0.01, gt=0, description="of the mean diagonal, added to the Hessian")
    epochs: int = Field(4, ge=0, description="times that each block sees the calibration windows")
    batch: int = Field(4, gt=0, description="calibration windows a training step")
    weight_rate: float = Field(0.02, gt=0, description="learning rate of weights, in grid steps")
    scale_rate: float = Field(0.005, gt=0, description="learning rate of scales, in grid steps")
    ambiguity: float = Field(0.0, ge=0, description="power of the entropy by which a token counts")
    targets: Literal["model", "block"] = Field(
        "model", description="the base's outputs on its own inputs, or the block's on the same"
    )
    seed: int = Field(0, description="of the order of the windows")

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

    def mistake(self, shape: tuple[int, int]) -> str | None:
        """Refuse a group size that leaves a ragged group."""
        return self.start.mistake(shape)

    def sketch(self, shape: tuple[int, int], scale_dtype: torch.dtype) -> Binary:
        """Return the planes without data."""
        out, columns = shape
        scales = Affine.sketch((out, -(-columns // self.group_size)), _scale_grid(scale_dtype))
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
                torch.autograd.backward(self.loss(block, windows, planes))
                optimizer.step()
                schedule.step()
        return {name: each.binary() for name, each in planes.items()}

    def _optimizer(
        self, planes: list["DualPlanes"], steps: int
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

    def loss(self, block: Tuning, windows: Tensor, planes: Mapping[str, "DualPlanes"]) -> Tensor:
        """Return the squared error of the block's outputs, by token as its entropy says."""
        inputs, targets = block.inputs(windows), block.targets(windows)
        if self.targets == "block":
            with torch.no_grad():
                targets = block.forward(inputs, {name: block.weight(name) for name in planes})
        outputs = block.forward(inputs, {name: each.weight() for name, each in planes.items()})
        errors = (outputs.float() - targets.float()).square().mean(2)  # (windows, length)
        importance = block.entropy(windows) ** self.ambiguity
        return (errors * importance).sum() / importance.sum()


class DualPlanes:
    """The planes of one linear in training: its weights and scales, in steps of the first grid."""

    def __init__(self, start: Binary, weight: Tensor) -> None:
        self.start = start
        first, second = (values(each) for each in start.scale)  # (out, groups)
        self.step = (first.abs() / 2).clamp(min=SMALLEST_SCALE)
        self.scales = torch.stack([first, second]) / self.step  # (2, out, groups)
        grouped = weight.view(*self.step.shape, start.group_size) / self.step[..., None]
        self.latent = _moved(grouped, start.signs.view(2, *grouped.shape), self.scales)
        self.latent.requires_grad_()
        self.scales.requires_grad_()

    def weight(self) -> Tensor:
        """Return a1 b1 + a2 b2, (out, in) bfloat16, differentiable by the weights and scales."""
        found: Tensor = _Binarized.apply(  # type: ignore[no-untyped-call] # torch leaves it open
            self.latent, self.scales, self.step, self._rounded()
        )
        return found

    def binary(self) -> Binary:
        """Return what is stored: the very weights of the last forward pass."""
        signs = nearest_planes(self.latent.detach(), self._rounded() / self.step)
        scale = tuple(round_scale(each, self._dtype) for each in self.scales.detach() * self.step)
        return Binary(
            signs=signs.flatten(2).contiguous(),
            scale=scale,
            mean=None,
            group_size=self.start.group_size,
            unipolar=True,
            facts=self.start.facts,
        )

    def _rounded(self) -> Tensor:
        """Return the scales as they would be stored now, (2, out, groups)."""
        exact = self.scales.detach() * self.step
        return torch.stack([values(round_scale(each, self._dtype)) for each in exact])

    @property
    def _dtype(self) -> torch.dtype:
        scale = self.start.scale[0]
        assert isinstance(scale, Affine)
        assert isinstance(scale.scale, Tensor)
        return scale.scale.dtype


class _Binarized(torch.autograd.Function):
    """a1 b1 + a2 b2 with b from the nearest level; weights learn as if they were not rounded."""

    @staticmethod
    def forward(
        context: Any,  # noqa: ANN401 - torch's context of an autograd function
        latent: Tensor,  # (out, groups, width), in steps
        scales: Tensor,  # (2, out, groups), in steps
        step: Tensor,  # (out, groups)
        rounded: Tensor,  # (2, out, groups): the scales as stored
    ) -> Tensor:
        first, second = nearest_planes(latent, rounded / step)
        context.save_for_backward(first, second, step)
        high, low = rounded[..., None]
        weight: Tensor = high * first + low * second
        return weight.flatten(1).to(torch.bfloat16)

    @staticmethod
    def backward(
        context: Any,  # noqa: ANN401
        *gradients: Tensor,
    ) -> tuple[Tensor, Tensor, None, None]:
        first, second, step = context.saved_tensors
        by_step = gradients[0].view(first.shape).float() * step[..., None]
        by_scale = torch.stack([(by_step * first).sum(2), (by_step * second).sum(2)])
        return by_step, by_scale, None, None


def dual_binary(start: Affine) -> Binary:
    """Write a 2-bit grid as two planes: with its zero z, the levels are -z to 3 - z steps.

    Around a zero of 1, a1 = 2 and a2 = -1 steps give -1, 0, 1 and 2; the other zeros have other
    signs: 0 has 2 and 1, 2 has -2 and 1, and 3 has -2 and -1.
    """
    assert start.zero is not None
    assert isinstance(start.scale, Tensor)
    zero = start.zero.int()
    first, second = torch.where(zero < 2, 2, -2), torch.where(zero % 2 == 1, -1, 1)
    level = Grid(start.bits, start.group_size).grouped(start.codes).int() - zero[..., None]
    odd = level % 2 == 1
    signs = torch.stack([level != second[..., None] * odd, odd])
    scale = start.scale.float()
    return Binary(
        signs=signs.flatten(2)[..., : start.shape[1]].contiguous(),
        scale=tuple(round_scale(scale * each, start.scale.dtype) for each in (first, second)),
        mean=None,
        group_size=start.group_size,
        unipolar=True,
        facts=start.facts,
    )


def nearest_planes(weight: Tensor, scales: Tensor) -> Tensor:
    """Return the planes (2, out, groups, width) of the level nearest to each weight.

    The scales (2, out, groups) may have any signs; the first is the larger by its size.
    """
    high, low = scales[..., None]
    first = (weight > (high + low) / 2) ^ (high < 0)
    return torch.stack([first, (weight - high * first > low / 2) ^ (low < 0)])


def _moved(weight: Tensor, planes: Tensor, scales: Tensor) -> Tensor:
    """Move each weight the least that makes its nearest planes the given ones."""
    high, low = scales[..., None]
    for border, scale, plane in (
        ((high + low) / 2, high, planes[0]),
        (high * planes[0] + low / 2, low, planes[1]),
    ):
        up = plane ^ (scale < 0)
        weight = torch.where(
            up, torch.maximum(weight, border + MARGIN), torch.minimum(weight, border - MARGIN)
        )
    return weight


def round_scale(scale: Tensor, dtype: torch.dtype) -> Values:
    """Round scales (out, groups) to 8 bits, with a 16-bit scale for each row."""
    return Affine.fit(scale, _scale_grid(dtype))


def _scale_grid(dtype: torch.dtype) -> Grid:
    return Grid(SCALE_BITS, symmetric=True, scale_dtype=dtype)

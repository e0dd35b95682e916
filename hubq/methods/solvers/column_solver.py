"""The column solver that GPTQ and its descendants share.

Columns are rounded one after another, and each is moved first so that it makes up for the errors
of those before it. With the Gram matrix G = XᵀX = (U + I) D (U + I)ᵀ, U strictly upper triangular,
column k is rounded after adding E U[:, k], where E = W - Q holds the errors so far. This is the
same rounding as GPTQ's (Frantar et al. 2023, section 3), as Chee et al. 2023 (QuIP, section 3)
prove, and it needs one Cholesky factorization of G read backwards and no inverse.

Everything here is transposed, (in, out): a column of the layer lies in one piece, and the loop
over columns runs as vector instructions over rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from hubq.errors import UserError
from hubq.methods import Inputs
from hubq.tensors.gram import mirror, reorder, reverse
from hubq.tensors.kernels.column_rounding import Exceptions, Levels, round_columns

RETRIES = 3  # each with ten times the damping
BLOCK = 128  # columns between two matrix products

RoundBlock = Callable[[slice, Tensor, Tensor], Tensor]
Fit = Callable[[slice, Tensor], None]
FitBlock = Callable[[slice, Tensor, Tensor], Tensor]


class Rows(Protocol):
    """A Gram matrix (in, in), some rows at a time; a tensor is one."""

    def __getitem__(self, here: slice, /) -> Tensor:
        """Return some rows, (some, in)."""


@dataclass(frozen=True)
class DampedRows:
    """The rows of a damped Gram matrix in solving order, made when they are asked for."""

    gram: Tensor  # (in, in), in the layer's order
    order: Tensor  # (in,)
    diagonal: Tensor  # (in,), damped and in solving order

    def __getitem__(self, here: slice, /) -> Tensor:
        """Return some rows, (some, in)."""
        rows = self.gram[self.order[here]].index_select(1, self.order)
        rows[:, here].diagonal().copy_(self.diagonal[here])
        return rows


@dataclass(frozen=True)
class Hessian:
    """The Gram matrix of a layer's inputs, factorized for solving its columns in an order."""

    factor: Tensor  # (in, in): U + I, in solving order
    # (in,): D, in solving order. Rounding a weight by e costs e² times it once all columns to come
    # have made up for it: it is 1 / [H⁻¹]ₖₖ, H without the columns before k (OBS; GPTQ, section 3).
    pivots: Tensor
    order: Tensor  # (in,): the place in the layer of each column in solving order
    energy: Tensor  # (in,): the diagonal of G, in the layer's order; 1 for an unused input
    unused: Tensor  # (in,) bool: the inputs that no token ever used
    facts: Mapping[str, float] = field(default_factory=dict)  # the damping, where it was raised

    def columns(self, weight: Tensor) -> Tensor:
        """Return (out, in) as (in, out) in solving order; the columns of unused inputs are zero."""
        return weight.T[self.order].masked_fill_(self.unused[self.order, None], 0)

    def rows(self, columns: Tensor) -> Tensor:
        """Return (in, out) in solving order as (out, in) in the layer's order."""
        return columns[self.order.argsort()].T.contiguous()

    def losses(self, errors: Tensor) -> Tensor:  # (in, parts, out) -> (parts,)
        """Return the sum of e G eᵀ over each part's errors in solving order, with the damping."""
        costs = (self.factor.T @ errors.flatten(1)).square_().view(errors.shape).sum(2)
        return self.pivots @ costs

    def gram(self, inputs: Inputs, damping: float) -> DampedRows:
        """Return the damped Gram matrix in solving order."""
        assert inputs.gram is not None
        energy = self.energy[self.order]
        diagonal = energy + self.facts.get("damping", damping) * energy.mean()
        return DampedRows(inputs.gram, self.order, diagonal)

    def in_place(self, each: Tensor) -> Tensor:
        """Return what belongs to each column, (in,), in the layer's order."""
        return each[self.order.argsort()]


def prepare(
    inputs: Inputs, damping: float, layer: str, *, activation_order: bool, together: int = 1
) -> Hessian:
    """Factorize the inputs' Gram matrix; in activation order the column with most energy is first.

    So many neighbouring columns stay `together`, and the group with most energy is first then; a
    ragged group is last. Raise UserError naming the layer when no damping makes it definite.
    """
    assert inputs.gram is not None
    return prepare_made(
        inputs.gram.clone, damping, layer, activation_order=activation_order, together=together
    )


def prepare_made(
    make: Callable[[], Tensor],
    damping: float,
    layer: str,
    *,
    activation_order: bool,
    together: int = 1,
) -> Hessian:
    """Do as `prepare` does with the Gram matrix that `make` returns, in place.

    It is made again for each raise of the damping, which is tenfold.
    """
    for attempt in range(RETRIES + 1):
        taken = damping * 10**attempt
        gram = make()
        energy = gram.diagonal().clone()
        unused = energy == 0
        energy[unused] = 1
        order = torch.arange(len(energy), device=energy.device)
        if activation_order:
            order = _by_energy(energy, together)
        factors = factorize(gram, order, taken)
        if factors is not None:
            return Hessian(*factors, order, energy, unused, {"damping": taken} if attempt else {})
        del gram
    raise UserError(
        f"{layer}: the Hessian stays singular with damping up to {taken:g}. "
        "Calibrate on more or other text, or set method.damping higher."
    )


def _by_energy(energy: Tensor, together: int) -> Tensor:  # (in,) -> (in,)
    """Order columns by energy within their groups, and the groups by theirs."""
    group = torch.arange(len(energy), device=energy.device) // together
    missing = -len(energy) % together
    total = torch.nn.functional.pad(energy, (0, missing)).view(-1, together).sum(1)
    if missing:
        total[-1] = -1
    rank = total.argsort(descending=True, stable=True).argsort()
    alone = energy.argsort(descending=True, stable=True)
    return alone[rank[group[alone]].argsort(stable=True)]


def factorize(
    gram: Tensor, order: Tensor, damping: float
) -> tuple[Tensor, Tensor] | None:  # (in, in), (in,)
    """Turn G into U + I in place, its columns in an order, and return that and D.

    The damping is a fraction of the mean diagonal; None where it leaves G indefinite. An unused
    input, whose row and column are zero, gets a diagonal of 1.
    """
    reorder(gram, order.flip(0))
    mirror(gram)  # a rotated one is symmetric only up to rounding
    diagonal = gram.diagonal()
    diagonal[diagonal == 0] = 1
    diagonal.add_(damping * diagonal.mean())
    lower = gram.mT  # as LAPACK has it, which then works in place
    failed = torch.empty((), dtype=torch.int32, device=gram.device)
    torch.linalg.cholesky_ex(lower, out=(lower, failed))
    if failed:
        return None
    roots = lower.diagonal().clone()
    lower.div_(roots)
    reverse(gram)
    return lower, roots.square().flip(0)


def solve(
    weight: Tensor, factor: Tensor, round_block: RoundBlock, block: int = BLOCK
) -> None:  # (in, out), (in, in)
    """Round a weight block after block of columns.

    `round_block(columns, moved, feedback)` rounds some columns, where `moved` (block, out) is the
    weight with what the errors of earlier blocks add to it, and returns the errors (block, out):
    the weight itself minus its rounding. `feedback` (block, block) is the factor's own part.
    """
    errors = torch.zeros_like(weight)
    for begin in range(0, len(weight), block):
        here = slice(begin, min(begin + block, len(weight)))
        moved = torch.addmm(weight[here], factor[:begin, here].T, errors[:begin])
        errors[here] = round_block(here, moved, factor[here, here])


def foreseen(weight: Tensor, moved: Tensor, feedback: Tensor) -> Tensor:  # (block, out)
    """Return where each column of a block will be if those before it in the block lose nothing.

    An error counts from the weight itself: a column that is rounded to where it has been moved has
    the opposite of its movement for an error, and so moves those after it.
    """
    movement: Tensor = torch.linalg.solve_triangular(
        feedback.T, moved - weight, upper=False, unitriangular=True
    )
    return weight + movement


def refine(
    columns: tuple[Tensor, Tensor],  # (in, out) each: the weight, and its errors so far
    gram: Rows,  # (in, in)
    round_block: RoundBlock,
    fit_block: FitBlock | None = None,
    block: int = BLOCK,
) -> None:
    """Round once more, each column to what suits all the others as they are; update the errors.

    This is coordinate descent on e G eᵀ. `fit_block(columns, gradient, own)` may change the levels
    of a block before it is rounded: `gradient` (block, out) is G e, `own` the block's part of G;
    it returns the block's errors with the new levels.
    """
    weight, errors = columns
    for begin in range(0, len(weight), block):
        here = slice(begin, min(begin + block, len(weight)))
        rows = gram[here]
        own, gradient = rows[:, here], rows @ errors
        if fit_block is not None:
            fitted = fit_block(here, gradient, own)
            gradient += own @ (fitted - errors[here])
            errors[here] = fitted
        others = gradient - own.tril() @ errors[here]
        moved = weight[here] + others / own.diagonal()[:, None]
        errors[here] = round_block(here, moved, own.triu(1) / own.diagonal())


class Rounding:
    """A layer's codes on their way through the solver: transposed, and in solving order."""

    def __init__(
        self,
        hessian: Hessian,
        weight: Tensor,  # (out, in)
        levels: Levels,  # of the columns as they lie in the layer
        exceptions: Exceptions | None = None,  # the same; the mask is (out, in) here
    ) -> None:
        self.hessian = hessian
        self.columns = hessian.columns(weight)
        self.levels = levels.in_order(hessian.order)
        self.exceptions = exceptions and (
            exceptions[0].T[hessian.order],
            exceptions[1].in_order(hessian.order),
        )
        self.codes = torch.empty(self.columns.shape, dtype=torch.uint8, device=weight.device)
        self.errors = torch.empty_like(self.columns)

    def round(self, here: slice, moved: Tensor, feedback: Tensor) -> Tensor:
        """Round some columns to the levels as they stand."""
        others = self.exceptions and (self.exceptions[0][here], self.exceptions[1].at(here))
        self.codes[here], self.errors[here] = round_columns(
            self.columns[here], moved, feedback, self.levels.at(here), others
        )
        return self.errors[here]

    def solve(self, fit: Fit | None = None, width: int = BLOCK) -> Tensor:
        """Round all columns and return the codes, (out, in) uint8, as they lie in the layer.

        `fit(columns, foreseen)` may first change the levels of a group of so many columns that
        stay together, with a view to where its weights will be (width, out).
        """

        def round_block(here: slice, moved: Tensor, feedback: Tensor) -> Tensor:
            if fit is not None:
                fit(here, foreseen(self.columns[here], moved, feedback))
            return self.round(here, moved, feedback)

        solve(self.columns, self.hessian.factor, round_block, width)
        return self.hessian.rows(self.codes)

    def refine(self, gram: Rows, refit: FitBlock | None = None, width: int = BLOCK) -> Tensor:
        """Round once more by coordinate descent (see `refine`), and return the codes."""
        refine((self.columns, self.errors), gram, self.round, refit, width)
        return self.hessian.rows(self.codes)


def solve_on(
    hessian: Hessian, weight: Tensor, levels: Levels, exceptions: Exceptions | None = None
) -> Tensor:  # (out, in) uint8
    """Return the codes of (out, in) on levels that are known beforehand."""
    return Rounding(hessian, weight, levels, exceptions).solve()

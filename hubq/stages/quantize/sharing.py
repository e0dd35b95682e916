"""How the processes that quantize together share the solving of a group of linears.

Where a method solves each row by itself, every process takes some rows of each linear. Others look
at all rows of a linear, to choose what is kept or to turn it, and the linears are shared out: q, k
and v, or gate and up, while those that are alone in their group keep one process busy.
"""

from dataclasses import replace

from hubq.methods import Group, Layer, Method
from hubq.stages.quantize.ranks import Ranks
from hubq.tensors import Affine, QuantizedTensor


def quantize_group(method: Method, group: Group, ranks: Ranks) -> tuple[QuantizedTensor, ...]:
    """Return what a method makes of a group's linears, to all that share the work."""
    if ranks.size == 1:
        return method.quantize_group(group)
    if method.rows_are_independent and min(map(_rows, group.layers)) >= ranks.size:
        return _by_rows(method, group, ranks)
    return _by_linears(method, group, ranks)


def _by_rows(method: Method, group: Group, ranks: Ranks) -> tuple[QuantizedTensor, ...]:
    own = (replace(each, weight=each.weight[ranks.share(_rows(each))]) for each in group.layers)
    solved = method.quantize_group(replace(group, layers=tuple(own)))
    return tuple(Affine.joined(_affine(parts)) for parts in zip(*ranks.all(solved), strict=True))


def _affine(parts: tuple[QuantizedTensor, ...]) -> list[Affine]:
    found = [each for each in parts if isinstance(each, Affine)]
    assert len(found) == len(parts), "rows of affine tensors alone can be joined"
    return found


def _by_linears(method: Method, group: Group, ranks: Ranks) -> tuple[QuantizedTensor, ...]:
    solvers = _solvers([_rows(each) for each in group.layers], ranks.size)
    pairs = list(zip(group.layers, solvers, strict=True))
    own = tuple(each for each, rank in pairs if rank == ranks.rank)
    others = tuple(each for each, rank in pairs if rank != ranks.rank)
    solved = method.quantize_group(replace(group, layers=own, others=others)) if own else ()
    waiting = [iter(each) for each in ranks.all(solved)]
    return tuple(next(waiting[rank]) for rank in solvers)


def _solvers(rows: list[int], size: int) -> list[int]:
    """Return the rank that solves each linear: the largest first, to whoever has least to do."""
    busy, solvers = [0] * size, [0] * len(rows)
    for number in sorted(range(len(rows)), key=lambda each: -rows[each]):
        rank = busy.index(min(busy))
        busy[rank] += rows[number]
        solvers[number] = rank
    return solvers


def _rows(layer: Layer) -> int:
    return len(layer.weight)

"""What members need by their plans, and what this machine has for them."""

import os

import torch

from hubq.machine.meters import available
from hubq.records.plan import Plan
from hubq.stages.evaluate.evaluate import why_by_blocks
from hubq.stages.plan.shortages import held_whole
from hubq.stages.sweep.executor import Needs
from hubq.stages.sweep.local import CPU, VISIBLE, Capacity

# Bytes of the command itself and of the process that others are forked from: their libraries.
PROCESSES = 1_000_000_000


def capacity_here() -> Capacity:
    """Return what this machine has free now."""
    count = torch.cuda.device_count()
    named = [each.strip() for each in os.environ.get(VISIBLE, "").split(",") if each.strip()]
    names = named[:count] or [str(number) for number in range(count)]
    free = {name: torch.cuda.mem_get_info(number)[0] for number, name in enumerate(names)}
    return Capacity(available(CPU), free)


def needs_of(plan: Plan) -> Needs:
    """Return what a plan's member holds at most."""
    adapted = plan.adaptation
    memory = PROCESSES + max(plan.peak_memory, adapted.peak_memory if adapted else 0)
    whole = 0 if why_by_blocks(plan) else PROCESSES + held_whole(plan)
    devices = [plan.device_memory, adapted.device_memory if adapted else None]
    known = [each for each in devices if each is not None]
    return Needs(memory, max(memory, whole), max(known, default=None))

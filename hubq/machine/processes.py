"""Processes that torchrun starts together, a GPU each; known without torch.

torchrun tells each of them its number and how many there are by RANK and WORLD_SIZE.
"""

import os
import sys
from typing import NoReturn

from hubq.errors import UserError


def started_together() -> int:
    """Return how many processes torchrun has started together; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def start_together(processes: int, words: list[str]) -> NoReturn:
    """Become torchrun, which starts a command of hubq's in so many processes, a GPU each.

    Raises UserError where there are fewer GPUs, or where torchrun has started this one already.
    """
    import torch

    if started_together() > 1:
        raise UserError("--gpus starts the processes itself: leave it out behind torchrun")
    found = torch.cuda.device_count()
    if processes > found:
        raise UserError(
            f"--gpus {processes}: torch finds {found} here. `hubq doctor` lists them, and "
            "CUDA_VISIBLE_DEVICES chooses among them"
        )
    launcher = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}")
    # Otherwise torchrun sets one thread each. Without `--` it takes --run for its own --run-path.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    os.execv(sys.executable, [sys.executable, *launcher, "-m", "--", "hubq", *words])

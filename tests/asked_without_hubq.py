"""Ask models in a process in which hubq cannot be imported."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

WITHOUT_HUBQ = Path(__file__).parent / "runtime" / "without_hubq.py"


def ask(requests: list[tuple[str, bool]], scratch: Path, **environment: str) -> list[Any]:
    """Load folders or repos in a process that has no hubq."""
    result = scratch / "answers.pt"
    known = {**os.environ, "HF_MODULES_CACHE": str(scratch / "modules"), **environment}
    subprocess.run(
        [sys.executable, "-I", WITHOUT_HUBQ, result],
        input=json.dumps(requests),
        text=True,
        check=True,
        env=known,
        capture_output=True,
    )
    answers: list[Any] = torch.load(result)
    return answers

"""vLLM as an engine: in an environment of its own, asked by JSON over pipes (vllm_script.py).

Its pins fit none of hubq's (torch, transformers, compressed-tensors), so it runs under another
python, which HUBQ_VLLM_PYTHON names. It gets prompts as token ids, of hubq's own tokenizer, and
gives back token ids.
"""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from lm_eval.models.utils import postprocess_generated_text

from hubq.errors import UserError
from hubq.machine.engines import vllm_python
from hubq.stages.evaluate.inference.generation import GenerationRequest, Prompt, Text

SCRIPT = Path(__file__).with_name("vllm_script.py")
SHARE = 0.9  # of what is free of a GPU: vLLM reserves it at once, weights and cache
LAST_LINES = 15  # of its log, for the error message
PATIENCE = 30  # seconds until a process that is asked to end is killed
SAMPLED = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")  # alike in both


class Written(NamedTuple):
    """What was written after prompts."""

    tokens: list[list[int]]
    seconds: float


class Vllm:
    """A process of vLLM with one model."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path, log: Path) -> None:
        self.process = process
        self.folder = folder
        self._log = log
        self.version = ""
        self.load_seconds = 0.0

    def load(self, **options: object) -> None:
        """Load the folder. Raises UserError with what vLLM says where it can't."""
        found = self._ask(load={"model": str(self.folder), **options})
        self.version, self.load_seconds = found["version"], found["seconds"]

    def write(self, prompts: Sequence[list[int]], **sampling: object) -> Written:
        """Let it write after prompts of token ids, by the options of its SamplingParams."""
        found = self._ask(write=list(prompts), sampling=sampling)
        return Written(found["written"], found["seconds"])

    def _ask(self, **request: object) -> dict[str, Any]:
        """Send a request and return the answer; raise UserError where the process ends instead."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            print(json.dumps(request), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            lines = self._log.read_text(errors="replace").splitlines()
            raise UserError(
                f"vLLM stopped with {self.folder}; measure it with engine: transformers, or see "
                "what vLLM says:\n" + "\n".join(lines[-LAST_LINES:])
            )
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def vllm(folder: Path, **options: object) -> Iterator[Vllm]:
    """Give a folder's model in a process of vLLM, which ends with the context.

    Raises UserError where vLLM is not installed, or can't load the folder.
    """
    command = [vllm_python(), "-P", str(SCRIPT)]
    with tempfile.TemporaryDirectory(prefix="hubq-vllm-") as place:
        log = Path(place) / "log"
        with (
            log.open("wb") as errors,
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=_environment(),
                text=True,
                start_new_session=True,  # with the processes that vLLM starts
            ) as process,
        ):
            try:
                engine = Vllm(process, folder, log)
                engine.load(**options)
                yield engine
            finally:
                _end(process)


def _environment() -> dict[str, str]:
    """Return this process's environment without what is hubq's: its path, and any token."""
    kept = {key: each for key, each in os.environ.items() if key not in ("PYTHONPATH", "HF_TOKEN")}
    return {**kept, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}


def _end(process: "subprocess.Popen[str]") -> None:
    """Close its input, by which it ends; kill what is left of it after a while."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def share_of_gpu() -> float:
    """Return the share of the GPU's memory that vLLM may take beside what lies there now."""
    import torch

    if not torch.cuda.is_available():
        return SHARE
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    return round(SHARE * free / total, 2)


class VllmWriter:
    """What writes texts as `Writer` does, by vLLM, which forms batches by itself."""

    def __init__(self, engine: Vllm, tokenizer: Any) -> None:  # noqa: ANN401 - of transformers
        self.engine = engine
        self.tokenizer = tokenizer

    def write(self, prompts: Iterable[Prompt], wanted: GenerationRequest) -> Iterator[list[Text]]:
        """Yield the texts of all prompts. Raises UserError for options that vLLM doesn't know."""
        asked = list(prompts)
        found = self.engine.write([each.ids for each in asked], **sampling(wanted))
        texts = self.tokenizer.batch_decode(found.tokens, skip_special_tokens=True)
        yield [
            Text(prompt.number, postprocess_generated_text(text, wanted.stops, None))
            for prompt, text in zip(asked, texts, strict=True)
        ]


def sampling(wanted: GenerationRequest) -> dict[str, Any]:
    """Translate a request into options of vLLM's SamplingParams."""
    options = dict(wanted.options)
    drawn = options.pop("do_sample")
    kept = {name: options.pop(name) for name in SAMPLED if name in options}
    if options:
        raise UserError(
            f"vLLM has no option {', '.join(sorted(options))}, by which this task writes its "
            "texts: measure it with engine: transformers"
        )
    if not drawn:
        kept = {"temperature": 0.0}
    return {
        **kept,
        "max_tokens": wanted.new_tokens,
        "stop": wanted.stops,
        "include_stop_str_in_output": True,  # it is cut here, as of texts of other engines
        "seed": 0,
    }

"""Next-token distributions, kept as what makes them: the last hidden states, and the head.

The logits of 20,000 tokens over a vocabulary of 49,152 are 4 GB in float32; the states that the
head turns into them are 24 MB. So a model's distributions are kept as a file of states, and formed
again with its head, read from its folder: exactly, and without the model in memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubq.errors import UserError
from hubq.machine.files import require_space
from hubq.machine.progress import SILENT, Progress
from hubq.sources.calibration_tokens import leading_ids
from hubq.stages.evaluate.inference.lm_head import Head, head_from, require_head
from hubq.stages.evaluate.inference.nan_check import refuse_bad_windows
from hubq.stages.evaluate.inference.passes import Passes
from hubq.stages.evaluate.task import TextTask, text_file

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Reference:
    """The distributions of a model that isn't loaded."""

    head: Head
    device: Any  # that the head is on
    windows: "Tensor"  # (windows, length) token ids
    states: Any  # (windows * (length - 1), hidden), read from the file in slices

    def logits(self, first: int, last: int) -> "Tensor":
        """Return the logits of some tokens, (last - first, vocabulary)."""
        return self.head(self.states[first:last].to(self.device))


def text_windows(task: TextTask, folder: Path) -> "Tensor":
    """Return the first windows of a text, (windows, length); fewer where it ends before."""
    import torch

    assert task.most is not None, "distributions of a whole text would fill the disk"
    text = text_file(task.text).read_bytes().decode()
    ids = leading_ids(text, folder, task.most * task.length)
    count = len(ids) // task.length
    if count == 0:
        raise UserError(
            f"fidelity: {task.dataset} has {len(ids):,} tokens, fewer than a window of "
            f"{task.length}; use shorter windows or a longer text"
        )
    return torch.tensor(ids[: count * task.length]).view(count, task.length)


def hidden_states(passes: Passes, task: TextTask, file: Path, progress: Progress = SILENT) -> None:
    """Write the last hidden states over a text to a file; refuse a model that needs more."""
    import torch

    from hubq.sources import shards

    model, folder = passes.model, passes.folder
    windows = text_windows(task, folder)
    with torch.inference_mode(), progress.task(task.title, len(windows)) as advance:
        head = head_weight(folder, model).to(model.device, model.dtype)
        require_head(model, folder, head_from(head, model.config))
        states = torch.empty(len(windows), task.length - 1, head.shape[1], dtype=head.dtype)
        require_space(file.parent, states.nbytes, "keeping a model's hidden states")
        for first, batch, found in passes.over(task, windows):
            refuse_bad_windows(model, batch, found, folder)
            states[first : first + len(batch)] = found
            advance(len(batch))
    shards.write(file, {"states": states.flatten(0, 1), "windows": windows})


@contextmanager
def opened(
    file: Path,  # of its states
    folder: Path,  # its own, for the head
    model: Any,  # noqa: ANN401 - the model that is compared: it names and places the head
) -> Iterator[Reference]:
    """Open the distributions of a reference; refuse a file that is damaged or gone."""
    from safetensors import SafetensorError, safe_open
    from transformers import AutoConfig

    try:
        opened: Any = safe_open(file, framework="pt")  # which is typed in parts
        states, windows = opened.get_slice("states"), opened.get_tensor("windows")
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"the reference's hidden states in {file} can't be read ({error}); delete the "
            "file and run again to compute them again"
        ) from error
    with opened:
        weight = head_weight(folder, model).to(model.device, states[:1].dtype)
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        yield Reference(head_from(weight, config), model.device, windows, states)


def head_weight(folder: Path, model: Any) -> "Tensor":  # noqa: ANN401
    """Read the weight of the head from a folder, (vocabulary, hidden), in the dtype it is kept in.

    The model is of the folder's architecture; what it calls its head, or the embeddings where both
    are tied, is the tensor's name.
    """
    from hubq.sources.language_part import opened
    from hubq.sources.shards import Weights

    weights, whole = Weights(folder), opened(folder).whole
    names = [
        f"{name}.weight"
        for wanted in (model.get_output_embeddings(), model.get_input_embeddings())
        for name, module in model.named_modules()
        if module is wanted
    ]
    if whole is not None:
        names = [whole.in_files("lm_head.weight"), whole.in_files("model.embed_tokens.weight")]
    name = next((each for each in names if each in weights.info), None)
    weight = None if name is None else weights.read(name)
    if weight is None or not weight.is_floating_point():
        raise UserError(
            f"{folder} has no plain tensor {' or '.join(names)}, from which next-token "
            "distributions could be formed: compare with a base whose head is not quantized, or "
            "set fidelity: null"
        )
    return weight

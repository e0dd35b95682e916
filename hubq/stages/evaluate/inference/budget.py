"""How much goes through a model at once: constant on a CPU, sized by its memory on a GPU.

What lies beside a question in a batch moves its numbers by their rounding: a GPU adds up in another
order for another number of rows, and in bfloat16 that shows in the third digit of a logarithm. So
sizes follow from what stays: the GPU's total memory less what the base takes by its config, which
is the same for a base and its copies, in powers of two, so that GPUs of about the same memory
agree. What is free at the moment only makes them smaller, where others hold the GPU: less is better
than running out of memory. The report gives them beside each number.
"""

from typing import Any, NamedTuple

from hubq.machine.gpu import DeviceMemory
from hubq.machine.meters import device_memory
from hubq.records.report import Batches

# More tokens at once are no faster on a CPU.
ON_CPU = Batches(passed=2048, kept=None, predicted=256, written=8192)
ELSEWHERE = ON_CPU.model_copy(update={"passed": 16384})
LEAST = Batches(passed=2048, kept=4096, predicted=256, written=2048)
MOST = Batches(passed=1 << 16, kept=1 << 18, predicted=1 << 14, written=1 << 18)
# Numbers that a block holds of a token at once, as multiples of its width and of its MLP's: the
# state, normed and in float32, queries, keys and values repeated for them, what comes out; then the
# gate, the other half and their product.
OF_THE_WIDTH, OF_THE_MLP = 12, 3
FLOAT = 4  # bytes; logits lie there once in the model's dtype and twice as float32


class Shape(NamedTuple):
    """What of a model's config says how much memory a token takes."""

    hidden: int
    intermediate: int
    layers: int
    kept: int  # numbers that the cache keeps of a token in each layer: keys and values
    vocabulary: int
    tied: bool
    width: int  # bytes of a number

    @classmethod
    def of(cls, model: Any) -> "Shape":  # noqa: ANN401 - transformers carries no types
        """Read a loaded model's config."""
        config = model.config.get_text_config()
        heads = config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // heads
        kept = 2 * size * (getattr(config, "num_key_value_heads", None) or heads)
        intermediate = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
        sizes = config.hidden_size, intermediate, config.num_hidden_layers, kept, config.vocab_size
        return cls(*sizes, bool(config.tie_word_embeddings), model.dtype.itemsize)

    @property
    def weight_bytes(self) -> int:
        """Return what the weights of the base take, roughly: a copy with fewer bits takes less."""
        block = self.hidden * (2 * self.hidden + self.kept + 3 * self.intermediate)
        heads = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return self.width * (self.layers * block + heads)


def batches_for(model: Any) -> Batches:  # noqa: ANN401
    """Return how much goes through a loaded model at once."""
    if model.device.type == "cpu":
        return ON_CPU
    if model.device.type != "cuda":
        return ELSEWHERE
    return sized(Shape.of(model), device_memory())


def recorded(model: Any) -> Batches | None:  # noqa: ANN401
    """Return what a report says of it: nothing for a CPU, where it is the same for everybody."""
    return None if model.device.type == "cpu" else batches_for(model)


def sized(shape: Shape, memory: DeviceMemory) -> Batches:
    """Size batches for a GPU, its memory as it is with the model loaded.

    Tokens pass, with those kept, in three quarters of what the base leaves; nothing passes while
    texts' logits are made, and texts are written at another time. An 8B in bfloat16 gets on 24 GB
    about what hubq took anywhere before.
    """
    room = memory.total - shape.weight_bytes
    kept = shape.width * shape.layers * shape.kept
    passed = shape.width * (OF_THE_WIDTH * shape.hidden + OF_THE_MLP * shape.intermediate)
    predicted = shape.vocabulary * (shape.width + 2 * FLOAT)
    takes = {
        "passed": (passed, 2),
        "kept": (kept, 4),
        "predicted": (predicted, 4),
        "written": (kept + passed, 2),
    }
    found = {
        name: min(_stepped(name, room // part // size), _stepped(name, memory.free // part // size))
        for name, (size, part) in takes.items()
    }
    return Batches(**found)


def _stepped(name: str, count: int) -> int:
    """Round down to a power of two within what is the least and the most of its kind."""
    least, most = getattr(LEAST, name), getattr(MOST, name)
    power = 1 << (max(count, 1).bit_length() - 1)
    return int(max(least, min(most, power)))


def behind(sizes: Batches, depth: int, row: int) -> int:
    """Return the tokens that pass at once behind a prefix of so many, kept for each row.

    A row behind it has at least `row` tokens, or as many as the prefix.
    """
    if sizes.kept is None or depth == 0:
        return sizes.passed
    return min(sizes.passed, sizes.kept * row // (row + depth))

"""The beginning that many token sequences share, run once: its keys and values in every layer."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache

MASKABLE = "sdpa"  # attention that takes a mask of ours, and what transformers chooses


class Stem:
    """A beginning under a model; it grows, and is cut back, as what hangs on it asks."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - transformers carries no types
        self.model = model
        self.depth = 0  # tokens
        self.layers: list[tuple[Tensor, Tensor]] = []  # each (1, heads, depth, size of a head)

    def grow(self, kept: int, ids: list[int]) -> None:
        """Cut the stem back to its first tokens, then run more behind them."""
        import torch

        self.layers = [(keys[:, :, :kept], values[:, :, :kept]) for keys, values in self.layers]
        self.depth = kept
        if ids:
            cache: Any = self.cache(rows=1)
            given = torch.tensor([ids], device=self.model.device)
            self.model.get_decoder()(input_ids=given, past_key_values=cache, use_cache=True)
            self.layers = [(layer.keys, layer.values) for layer in cache.layers]
            self.depth += len(ids)

    def cache(self, rows: int) -> "DynamicCache":
        """Return what a batch of so many rows goes on from."""
        from transformers import DynamicCache

        cache = DynamicCache()
        for index, layer in enumerate(self.layers if self.depth else []):
            keys, values = (kept.expand(rows, -1, -1, -1) for kept in layer)
            cache.update(keys, values, index)
        return cache


def longest_masked(model: Any) -> int:  # noqa: ANN401 - a transformers model
    """Return how long a sequence may be for a mask of ours to say all that its tokens see.

    Attention with a window sees less than the whole sequence, which such a mask would show it;
    other implementations take no such mask, or another.
    """
    config = model.config.get_text_config()
    if config._attn_implementation != MASKABLE:
        return 0
    windows = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return min((window for window in windows if window), default=1 << 62)

"""The model that is quantized: opened under a plain decoder's names, and what of it is copied.

Of a model that sees the decoder is its language part. What is written has the names of its files.
"""

from collections.abc import Collection
from pathlib import Path

from hubq.errors import UserError
from hubq.runtime.headers import LEGACY
from hubq.sources.architecture import family_of
from hubq.sources.language_part import opened
from hubq.sources.shards import Piece, Weights


class OpenedModel:
    """A folder of weights; UserError for one that holds numbers that are none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config, tensors, self.whole = opened(folder)
        self.family = family_of(self.config)
        self.weights = Weights(folder, dict(tensors))
        self._stays = {} if self.whole is None else dict(self.whole.stays)
        self.outside = self._outside()
        for weights, names in (
            (self.weights, self.outside),
            (Weights(folder, self._stays), self._stays),
        ):
            for name in names:
                if not weights.finite(name):
                    raise UserError(f"{name} holds NaN or inf: the model's weights are damaged")

    def _outside(self) -> list[str]:
        """List the tensors outside of the blocks; a tied head is not one of them."""
        tied = f"{self.family.head}.weight" if self.config.get("tie_word_embeddings") else ""
        inside = f"{self.family.blocks}."
        return [
            name
            for name in self.weights.info
            if not name.startswith(inside) and name != tied and not name.endswith(LEGACY)
        ]

    def written(self, packed: list[Piece], quantized: Collection[str]) -> list[Piece]:
        """Return all pieces of a copy whose quantized modules and blocks are `packed`.

        What stays of a model that sees is among them, byte for byte.
        """
        info = self.weights.info
        unchanged = [
            Piece(name, self.folder / info[name].file, info[name])
            for name in self.outside
            if name.removesuffix(".weight") not in quantized
        ]
        pieces = [*unchanged, *packed]
        if self.whole is None:
            return pieces
        named = [each._replace(name=self.whole.in_files(each.name)) for each in pieces]
        stays = [Piece(name, self.folder / each.file, each) for name, each in self._stays.items()]
        return [*named, *stays]

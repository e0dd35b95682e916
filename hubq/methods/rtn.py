"""RTN: the baseline that every other method has to beat."""

from typing import ClassVar

from hubq.methods import AffineMethod, Holds, Layer
from hubq.tensors import Affine


class RTN(AffineMethod):
    """Round each weight to the nearest level of its group. Needs no calibration data."""

    title: ClassVar[str] = "RTN"
    paper: ClassVar[str] = "https://arxiv.org/abs/2004.09602"
    bibtex: ClassVar[str] = """@misc{wu2020integer,
  title = {Integer Quantization for Deep Learning Inference},
  author = {Wu, Hao and Judd, Patrick and Zhang, Xiaojie and Isaev, Mikhail and others},
  year = {2020},
  eprint = {2004.09602},
  archivePrefix = {arXiv}
}"""
    holds: ClassVar[Holds] = Holds(weights=2.25, grams=0)
    takes_stored: ClassVar[bool] = True
    rows_are_independent: ClassVar[bool] = True

    def quantize(self, layer: Layer) -> Affine:
        """Fit a grid to each group and round to it."""
        return self.with_inputs(Affine.fit(layer.weight, self.grid(layer.scale_dtype)))

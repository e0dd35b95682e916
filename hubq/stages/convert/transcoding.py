"""One conversion: a quantized folder packed anew module by module, and read back."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from hubq.errors import UserError
from hubq.formats import format_named
from hubq.formats.dense import Plain
from hubq.formats.foreign.folder import QuantizedFolder
from hubq.formats.foreign.fp8 import ROUNDED
from hubq.machine.device import dtype_name
from hubq.machine.files import put_in_place, require_space, write_atomically
from hubq.machine.progress import Progress
from hubq.sources.auxiliary_files import beside_config
from hubq.sources.shards import Piece, Weights, merge, pieces, write
from hubq.stages.convert.choose_strategy import choose, packed, survey
from hubq.stages.convert.conversion import (
    RECORD,
    Conversion,
    ConversionRequest,
    ConvertedModule,
    license_in,
    rendered,
)
from hubq.stages.convert.files import config_json, superfluous
from hubq.stages.convert.strategies import Strategy
from hubq.tensors import Affine, QuantizedTensor, Reordered

COPIES = 2  # of the result on disk while its parts are joined
ROWS = ("embed_tokens", "wte", "wpe", "embed_in", "word_embeddings")  # matrices, but no linears


class Transcoding:
    """A quantized folder on its way into another format."""

    def __init__(self, model: Path, request: ConversionRequest, progress: Progress) -> None:
        self.request = request
        self.progress = progress
        self.source = QuantizedFolder(model)
        self.form = format_named(request.form)
        self.dropped = superfluous(self.source)
        surveys = survey(self.source, self.form, lossy=request.lossy, progress=progress)
        self.strategies = choose(surveys, self.form, lossy=request.lossy)
        self.sketches = {
            name: surveys[name].sketches[strategy] for name, strategy in self.strategies.items()
        }
        facts = [each.facts for each in surveys.values()]
        self.wrapped_zeros = int(sum(each.get("wrapped_zeros", 0) for each in facts))
        self.rounded_inputs = any(ROUNDED in each for each in facts) or any(
            strategy.leaves_inputs for strategy in self.strategies.values()
        )
        self.quantization = self.form.config(packed(self.sketches, self.form), self._kept())

    def _kept(self) -> list[str]:
        """Name the linears that the result does not quantize."""
        info = self.source.weights.info
        matrices = [
            name.removesuffix(".weight")
            for name in self.source.others
            if name.endswith(".weight") and len(info[name].shape) == 2
        ]
        written_out = self.sketches.keys() - packed(self.sketches, self.form).keys()
        kept = (*matrices, *sorted(written_out))
        return [name for name in kept if name.rpartition(".")[2] not in ROWS]

    def write(self, partial: Path) -> None:
        """Pack all modules into a folder of their own, with the other tensors as they are."""
        require_space(partial, COPIES * self._bytes(), "the converted model")
        shutil.rmtree(partial, ignore_errors=True)
        parts = partial / "parts"
        parts.mkdir(parents=True)
        with self.progress.task("Converting", len(self.strategies)) as advance:
            for number, (module, strategy) in enumerate(self.strategies.items()):
                tensor = strategy.apply(self.source.read(module))
                _require_finite(module, tensor)
                write(parts / f"{number:06d}.safetensors", self._tensors(module, tensor))
                advance(1)
        modules = [piece for part in sorted(parts.iterdir()) for piece in pieces(part)]
        merge([*self._unchanged(), *modules], partial)
        shutil.rmtree(parts)

    def _tensors(self, module: str, tensor: QuantizedTensor) -> dict[str, torch.Tensor]:
        """Return the file's tensors for a module."""
        if isinstance(tensor, Plain):
            return {f"{module}.weight": tensor.weight}
        return self.form.pack(module, tensor)

    def _unchanged(self) -> list[Piece]:
        """List the tensors that are copied as they are."""
        info, folder = self.source.weights.info, self.source.folder
        return [
            Piece(name, folder / info[name].file, info[name])
            for name in self.source.others
            if name not in self.dropped
        ]

    def _bytes(self) -> int:
        """Count what the result's tensors take."""
        made = (self._tensors(*each).values() for each in self.sketches.items())
        quantized = sum(tensor.nbytes for tensors in made for tensor in tensors)
        return quantized + sum(piece.size for piece in self._unchanged())

    def prove(self, partial: Path) -> tuple[ConvertedModule, ...]:
        """Read the written file back and compare every module with the source's."""
        written, proven = Weights(partial), []
        with self.progress.task("Proving", len(self.strategies)) as advance:
            for module, strategy in self.strategies.items():
                proven.append(self._proven(module, strategy, written))
                advance(1)
        return tuple(proven)

    def _proven(self, module: str, strategy: Strategy, written: Weights) -> ConvertedModule:
        before = self.source.read(module)
        meant, old = strategy.apply(before).dequantize(), before.dequantize()
        new = self._written(module, written).dequantize()
        if not torch.equal(new, meant):
            raise UserError(
                f"{module} reads back from the written file with different numbers, so it was not "
                "kept.\n"
                "Run again; if it happens again, report it with the name of the model"
            )
        same = torch.equal(new, old)
        assert same or not strategy.keeps_integers, f"{module} lost what its strategy keeps"
        lost = 0.0 if same else float((new - old).norm() / old.norm())
        return ConvertedModule(name=module, done=str(strategy), same=same, difference=lost)

    def _written(self, module: str, written: Weights) -> QuantizedTensor:
        """Read a module of the result."""
        sketch = self.sketches[module]
        tensors = {name: written.read(name) for name in self._tensors(module, sketch)}
        if isinstance(sketch, Plain):
            return Plain(tensors[f"{module}.weight"])
        return self.form.unpack(module, tensors, self.quantization)

    def finish(self, partial: Path, out: Path, modules: tuple[ConvertedModule, ...]) -> Conversion:
        """Add the other files and the record, and put the folder in its place in one step."""
        folder = self.source.folder
        beside = beside_config(folder, license_in(folder))
        conversion = Conversion(
            source=self.request.source,
            source_format=self.source.method,
            format=self.form.name,
            modules=modules,
            facts=(*self._facts(), *beside.facts),
        )
        files = {
            **beside.files,
            **self.form.extra_files(self.quantization),
            "config.json": config_json(
                self.source, self.form, self.quantization, self.request.source
            ),
            "README.md": rendered(conversion, out.name, folder),
        }
        for name, content in files.items():
            write_atomically(partial / name, content)
        conversion.save(partial / RECORD)
        put_in_place(partial, out)
        return conversion

    def _facts(self) -> Iterator[str]:
        """Say what is not as in the source, but for the modules' numbers."""
        if self.wrapped_zeros:
            yield (
                f"{self.wrapped_zeros} zeros of 0 were stored as -1 (gptq version 1) and read as "
                "0; some loaders of the source carry its missing one into the zero beside it."
            )
        if self.rounded_inputs:
            yield "The source's readers round the inputs of its linears; this copy's do not."
        scales = {_scale_dtype(each) for each in self.sketches.values()}
        if others := sorted(scales - {self.source.dtype, ""}):
            yield (
                f"Scales are {' and '.join(others)} as in the source, the model is "
                f"{self.source.dtype}: engines that hold scales in its dtype round them on loading."
            )
        yield from dict.fromkeys(self.dropped.values())


def _scale_dtype(tensor: QuantizedTensor) -> str:
    """Spell the dtype of plain scales; empty where there are none."""
    inner = tensor.inner if isinstance(tensor, Reordered) else tensor
    if not isinstance(inner, Affine) or not isinstance(inner.scale, torch.Tensor):
        return ""
    return dtype_name(inner.scale.dtype)


def _require_finite(module: str, tensor: QuantizedTensor) -> None:
    """Refuse weights that 16 bits don't reach."""
    if isinstance(tensor, Plain) and not torch.isfinite(tensor.weight).all():
        raise UserError(
            f"{module} has weights too large for {tensor.weight.dtype}, the dtype in config.json: "
            "change that to bfloat16, and convert again"
        )

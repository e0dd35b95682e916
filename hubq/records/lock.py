"""What a result was computed with, beside its plan: libraries, threads, and the kind of machine."""

import re
from typing import Annotated, Literal

from pydantic import Field

from hubq.records.record import Record

MOST = 2000  # packages
# Of names and versions of packages: what a file for uv or pip can say by mistake of nothing else.
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]{0,98}[a-z0-9])?$")]
Version = Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+!_-]{0,98}$")]
Word = Annotated[str, Field(pattern=r"^[\w. +()-]{1,60}$")]
BACKEND = re.compile(r"\+(cpu|xpu|cu[0-9]{2,4}|rocm[0-9.]{1,8})$")  # ends a version of torch


class Lock(Record):
    """The surroundings in which the same recipe gives the same bytes."""

    python: Version
    hubq: Version
    packages: dict[Name, Version] = Field(max_length=MOST)  # those of hubq, and all they require
    system: Word  # such as Linux x86_64
    instructions: Word  # that torch computes by: AVX512, or a GPU's compute capability
    device: Literal["cpu", "cuda"]
    threads: int = Field(ge=1, le=4096)


def python_of(lock: Lock) -> str:
    """Return the version of Python as far as packages are built for it: 3.11."""
    return ".".join(lock.python.split(".")[:2])


def torch_backend(lock: Lock) -> str | None:
    """Name the kind of torch for uv (cpu, cu126, ...), where its version says one."""
    found = BACKEND.search(lock.packages.get("torch", ""))
    return found and found[1]


def commands(lock: Lock, file: str) -> list[str]:
    """Return the commands by which uv makes such an environment of a file of requirements."""
    backend = torch_backend(lock)
    option = f" --torch-backend {backend}" if backend else ""
    return [
        f"uv venv --python {python_of(lock)} hubq-{lock.hubq}",
        f"uv pip sync --python hubq-{lock.hubq}{option} {file}",
    ]


def requirements(lock: Lock, file: str = "requirements.txt") -> str:
    """Write the packages as `uv pip sync` and `uv pip install -r` read them."""
    said = [f"hubq {lock.hubq} ran on these, by Python {lock.python} on {lock.system}. By uv:"]
    said += commands(lock, file)
    if "hubq" not in lock.packages:  # no index has it by that name
        said.append(f"and hubq {lock.hubq} from its sources: uv pip install --no-deps ...")
    pins = [f"{name}=={version}" for name, version in sorted(lock.packages.items())]
    return "\n".join([*(f"# {each}" for each in said), *pins]) + "\n"

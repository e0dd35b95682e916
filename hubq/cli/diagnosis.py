"""What works here: libraries, devices, formats, the Hub and the token, known in a few seconds.

Nothing here fails: what is missing or can't be reached is said, and with it what helps.
"""

import os
import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hubq import __version__
from hubq.client.client import Client
from hubq.client.credentials import how_to_log_in
from hubq.client.error_messages import scrub
from hubq.errors import UserError
from hubq.machine.engines import installed_version, missing_packages, readers_of
from hubq.machine.files import gigabytes
from hubq.records.record import Record

if TYPE_CHECKING:
    from httpx2 import Response

    from hubq.machine.device import Computing

LIBRARIES = (
    "torch",
    "transformers",
    "huggingface_hub",
    "hf-xet",
    "safetensors",
    "tokenizers",
    "compressed-tensors",
    "gptqmodel",
    "optimum",
    "bitsandbytes",
    "lm-eval",
    "datasets",
    "numba",
)
# CPU instructions that decide how fast a model runs without a GPU.
INSTRUCTIONS = (
    "avx2",
    "avx512f",
    "avx512_bf16",
    "avx512_vnni",
    "amx_bf16",
    "amx_int8",
    "bf16",
    "i8mm",
)
PATIENCE = 5.0  # seconds that the Hub has to answer
ABSENT = "not installed"


class Diagnosis(Record):
    """What was found; every value is for people, and stable enough for scripts."""

    hubq: str
    python: str
    system: str
    libraries: dict[str, str]  # name -> version, or "not installed"
    cpu: str
    cores: int
    instructions: tuple[str, ...]
    memory: int  # bytes
    gpus: tuple[str, ...]
    compute_dtype: str  # that a model stored in bfloat16 runs in
    compute_reason: str  # why it is this one
    formats: dict[str, str]  # name -> "yes", or what is missing for it
    hub: str
    reachable: bool
    hub_says: str
    token: str  # what is known about it, never itself
    user: str | None
    cache: str  # the folder of huggingface_hub's downloads
    cache_free: int  # bytes


class Answer(NamedTuple):
    """What the Hub said about itself and the token."""

    reachable: bool
    says: str
    token: str
    user: str | None = None


def diagnose(client: Client) -> Diagnosis:
    """Look around without changing anything; the Hub has five seconds to answer."""
    from huggingface_hub import constants

    from hubq.machine.meters import installed

    answer, computing = ask(client), _computing()
    cache = Path(constants.HF_HUB_CACHE)
    return Diagnosis(
        hubq=__version__,
        python=platform.python_version(),
        system=platform.platform(),
        libraries={name: installed_version(name) or ABSENT for name in LIBRARIES},
        cpu=_cpu_field("model name") or platform.processor() or platform.machine(),
        cores=_cores(),
        instructions=_instructions(),
        memory=installed(),
        gpus=_gpus(),
        compute_dtype=computing.dtype,
        compute_reason=computing.reason,
        formats=loadable(),
        hub=client.url,
        reachable=answer.reachable,
        hub_says=answer.says,
        token=answer.token,
        user=answer.user,
        cache=str(cache),
        cache_free=_free(cache),
    )


def loadable() -> dict[str, str]:
    """Say of each format whether transformers can load it here, and else what to install."""
    from hubq.formats import formats

    return {name: _missing(name) or "yes" for name in formats()}


def _missing(form: str) -> str | None:
    """Name the packages that are missing for a format, and the way to get them."""
    missing = missing_packages(form)
    if not missing:
        return None
    extra = readers_of(form).extra
    command = f"hubq[{extra}]" if extra else " ".join(missing)
    return f"needs {', '.join(missing)}: pip install '{command}'"


def ask(client: Client) -> Answer:
    """Ask the Hub who the token belongs to."""
    import httpx2
    from huggingface_hub import constants

    token = client.sent_token
    if constants.HF_HUB_OFFLINE:
        return Answer(False, "not checked: HF_HUB_OFFLINE is set", "not checked")
    try:
        reply = client.get("/api/whoami-v2", PATIENCE)
    except (httpx2.HTTPError, httpx2.InvalidURL, UserError) as error:
        why = scrub(str(error), token).strip() or type(error).__name__
        return Answer(False, f"not reachable ({why})", "not checked")
    if reply.status_code == 200 and token:
        name = _name(reply)
        return Answer(True, "reachable", f"valid, belongs to {name}", name)
    if reply.status_code not in (200, 401):
        says = f"answers with status {reply.status_code}: is it a Hub?"
        return Answer(True, says, "not checked")
    if not token:
        return Answer(True, "reachable", f"none: {how_to_log_in(client.url)}")
    return Answer(True, "reachable", f"refused: make a new one, then {how_to_log_in(client.url)}")


def _name(reply: "Response") -> str:
    """Read the user's name from a whoami answer."""
    try:
        return str(reply.json()["name"])
    except (ValueError, KeyError, TypeError):
        return "an unnamed user"


def _cores() -> int:
    """Count the cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _cpu_field(name: str) -> str:
    """Read a field of the first CPU, where the system tells."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _instructions() -> tuple[str, ...]:
    """List those of the interesting instructions that the CPU has."""
    flags = set((_cpu_field("flags") or _cpu_field("Features")).split())
    return tuple(name for name in INSTRUCTIONS if name in flags)


def _computing() -> "Computing":
    """Say in which dtype models run here, and why, or what is wrong with what was asked for."""
    from hubq.machine.device import Computing, best_device, computing

    try:
        return computing(best_device().type)
    except UserError as error:
        return Computing("none", str(error))


def _gpus() -> tuple[str, ...]:
    """Name the GPUs that torch can use, with their memory."""
    import torch

    properties = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return tuple(f"{each.name}, {gigabytes(each.total_memory)}" for each in properties)


def _free(folder: Path) -> int:
    """Count the free bytes where a folder is or would be."""
    standing = next(each for each in [folder, *folder.absolute().parents] if each.is_dir())
    return shutil.disk_usage(standing).free

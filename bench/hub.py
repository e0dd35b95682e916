"""How fast the embedded Hub takes and gives a large file, and in how much memory.

python bench/hub.py [megabytes]
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEGABYTE = 1_000_000


def main() -> None:
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # read when the client is imported
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    print(f"{'':6}{'up MB/s':>10}{'down MB/s':>12}{'server MB':>12}   ({size} MB of noise)")
    for way in ("xet", "lfs"):
        up, down, memory = measure(way, size)
        print(f"{way:6}{size / up:10.0f}{size / down:12.0f}{memory:12.0f}")


def measure(way: str, size: int) -> tuple[float, float, float]:
    """Upload and download a file; return both times in seconds and the server's peak in MB."""
    import huggingface_hub.constants
    from huggingface_hub import HfApi

    from hubq.embedded_hub import local_hub

    huggingface_hub.constants.HF_HUB_DISABLE_XET = way == "lfs"
    with tempfile.TemporaryDirectory() as name, local_hub(Path(name) / "hub") as hub:
        folder = Path(name)
        file = folder / "model.safetensors"
        write_noise(file, size)
        api = HfApi(endpoint=hub.endpoint, token=hub.token)
        api.create_repo("local/model")
        with stopwatch() as up:
            api.upload_file(path_or_fileobj=file, path_in_repo=file.name, repo_id="local/model")
        with stopwatch() as down:
            api.hf_hub_download("local/model", file.name, local_dir=folder / "down")
        return up[0], down[0], peak(folder / "hub")


def write_noise(file: Path, size: int) -> None:
    """Write bytes that cannot be compressed, `size` megabytes of them."""
    with file.open("wb") as out:
        for _ in range(size):
            out.write(os.urandom(MEGABYTE))


@contextmanager
def stopwatch() -> Iterator[list[float]]:
    """Give a list that holds the seconds once the block is done."""
    seconds: list[float] = []
    start = time.perf_counter()
    yield seconds
    seconds.append(time.perf_counter() - start)


def peak(root: Path) -> float:
    """Return the most memory that the server of a root has used, in MB (Linux)."""
    pid = json.loads((root / "running.json").read_text())["pid"]
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / MEGABYTE
    return float("nan")


if __name__ == "__main__":
    main()

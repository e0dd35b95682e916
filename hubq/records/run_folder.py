"""The folder of a run: one process at a time works in it, and only what a run made is removed."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hubq.errors import UserError
from hubq.machine.files import PARTIAL, TAKEN, WITHOUT_LOCKS

PLAN = "plan.json"  # what makes a folder that of a run
CHECKPOINT = "checkpoint.json"
REPORT = "report.json"
SIBLINGS = "siblings.json"
VERSIONS = "versions.json"  # of a release that replaces another
CHANGELOG = "CHANGELOG.md"  # what is told of them
PUBLICATION = "publication.json"  # what `publish` leaves in a run that it has published
FAMILY = "family.json"  # beside a page on all models of one base
STAGED = "staged.json"  # under which name a release waits on the Hub
DOWNLOADED = "downloaded"  # what waits on the Hub, while it is looked at
MODEL = "model"
IN_A_REPO = "hubq"  # the folder of a repo that holds the records
REPORT_IN_A_REPO = f"{IN_A_REPO}/{REPORT}"  # that it is there tells that hubq made the repo
LOCK = "requirements.txt"  # the versions of libraries, for uv
LOCK_IN_A_REPO = f"{IN_A_REPO}/{LOCK}"
REPRODUCTION = "reproduction.json"  # what `reproduce` found
ATTESTATION = "attestation.json"
ATTESTATION_IN_A_REPO = f"{IN_A_REPO}/{ATTESTATION}"  # what a release was made of, and its files
SIGNATURE = "model.sig"  # as model-signing calls it
ADAPTATION = "adaptation.json"
# All that stages write into a run folder beside the plan, by name.
RECORDS = (
    *(REPORT, CHECKPOINT, ADAPTATION, PUBLICATION, "destination.json", STAGED),
    *(SIBLINGS, VERSIONS, REPRODUCTION),
)
PICTURES = tuple(
    f"images/{name}{page}.png"
    for name in ("recovery", "bits", "errors", "curve")
    for page in ("", "-dark")
)
ADAPTER_CONFIG = "adapter_config.json"
# What an adapter's repo holds beside the files that were measured: its config as filled in when
# the commit of its base is known, and the settings by which a 16-bit base was quantized.
QUANTIZATION = "quantization_config.json"
PAPERS = (
    *("README.md", CHANGELOG),
    *PICTURES,
    *(ADAPTER_CONFIG, QUANTIZATION),
    *(f"{IN_A_REPO}/{name}" for name in (REPORT, PLAN, "recipe.yaml", SIBLINGS, VERSIONS)),
    *(f"{IN_A_REPO}/{name}" for name in (LOCK, ATTESTATION)),
    SIGNATURE,
    *(f".eval_results/{name}.yaml" for name in ("gsm8k", "mmlu_pro")),
)
BLOCKS = "blocks"  # what is finished of a model
# What `adapt` makes lies in a run folder of its own: its model, report, card and publication.
ADAPTED = "adapted"
ADAPTER = "adapter"  # the folder of an adapter, inside that of the model that it belongs to
STEPS = "steps"  # what is finished of a training
WHOLE = (MODEL, f"{MODEL}{PARTIAL}", BLOCKS, STEPS, DOWNLOADED)


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Keep a run folder, made if missing, from other processes.

    The lock is on the folder itself, where libraries want a file in it that no run made, and ends
    with the process, however that ends. A file system without such locks gives none: it is there
    against accidents.
    """
    run.mkdir(parents=True, exist_ok=True)
    handle = os.open(run, os.O_RDONLY)
    try:
        _lock(handle, run)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, run: Path) -> None:
    import fcntl  # Windows has none

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in TAKEN:
            raise UserError(
                f"another hubq process is using {run}.\n"
                "Wait until it ends, or choose another folder with --run."
            ) from error
        if error.errno not in WITHOUT_LOCKS:
            raise


def is_locked(folder: Path) -> bool:
    """Tell whether a process is using a folder; no, where its file system has no locks."""
    import fcntl  # Windows has none

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in TAKEN
    finally:
        os.close(handle)
    return False


def require_run(folder: Path) -> None:
    """Raise UserError unless a folder is new, empty or one of a run.

    A run's folder holds a plan of hubq's; a first plan that was cut off leaves at most its half.
    """
    if not folder.is_dir() or _is_plan(folder / PLAN):
        return
    held = sorted(path.name for path in folder.iterdir() if path.name != f"{PLAN}{PARTIAL}")
    if held:
        shown = ", ".join(held[:3]) + (", ..." if len(held) > 3 else "")
        raise UserError(
            f"{folder} holds files ({shown}) but no {PLAN} of hubq, so it is not a run folder: "
            "nothing was written or removed there.\n"
            "Name a new folder with --run, or leave --run out"
        )


def clear(run: Path) -> None:
    """Remove what a run made: first its records, so that a kill leaves nothing half that counts.

    Its plan stays, to be replaced in one step, and so does whatever hubq did not write. Raises
    UserError, before anything is removed, where such things lie in a folder that goes as a whole.
    """
    require_run(run)
    _refuse_strangers(run / MODEL, run / CHECKPOINT)
    _clear_inner(run / ADAPTED)
    for name in (*RECORDS, *PAPERS):
        for path in (run / name, run / f"{name}{PARTIAL}"):
            if path.parent == run or not path.parent.is_symlink():
                path.unlink(missing_ok=True)
    for name in WHOLE:
        if (run / name).is_symlink():
            (run / name).unlink()
        elif (run / name).is_dir():
            shutil.rmtree(run / name)
    for name in sorted({path.rpartition("/")[0] for path in PAPERS} - {""}):
        with suppress(OSError):  # it holds something else, or isn't there
            (run / name).rmdir()


def _clear_inner(run: Path) -> None:
    """Remove what was made in a run folder inside another, and its plan."""
    if run.is_symlink() or not run.is_dir():
        return
    if _is_plan(run / PLAN):
        clear(run)
        (run / PLAN).unlink()
    for name in RECORDS:  # what comes before a plan
        (run / name).unlink(missing_ok=True)
    with suppress(OSError):  # it holds something else
        run.rmdir()


def _is_plan(path: Path) -> bool:
    """Tell whether a file is a plan of this or any other version of hubq."""
    try:
        plan = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(plan, dict) and isinstance(plan.get("recipe"), dict) and "modules" in plan


def _refuse_strangers(model: Path, checkpoint: Path) -> None:
    """Refuse files in a finished model that its checkpoint does not list."""
    try:
        listed = json.loads(checkpoint.read_bytes())["files"].keys()
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return  # not finished: all that lies there is made anew anyway
    if not model.is_dir() or model.is_symlink():
        return
    found = {path.relative_to(model).as_posix() for path in model.rglob("*") if not path.is_dir()}
    if strangers := sorted(found - listed):
        raise UserError(
            f"{model} holds files that hubq did not write ({', '.join(strangers[:3])}): nothing "
            "was removed.\nMove them elsewhere, then run again"
        )


def record_in(folder: Path, name: str) -> Path | None:
    """Return where a folder, of a run, of a card or of a repo, holds a record; or None."""
    places = (folder / name, folder / IN_A_REPO / name)
    return next((place for place in places if place.is_file()), None)

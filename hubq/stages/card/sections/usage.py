"""What reads the files: each engine with how that is known, and what it takes to install."""

from functools import cache
from importlib.metadata import PackageNotFoundError, metadata
from typing import TYPE_CHECKING, NamedTuple

from hubq.machine.engines import LOADER, readers_of
from hubq.records.report import Report

if TYPE_CHECKING:
    from hubq.methods import Method

YES, NO, UNKNOWN = "✓", "✗", "?"
SERVING = ("vLLM", "SGLang")
LABELS = ("homepage", "repository", "source")  # of [project.urls] in pyproject.toml, best first
WITHOUT_ADDRESS = "hubq (the tool that made this repo; not on PyPI under that name)"


class Engine(NamedTuple):
    """One line of the table of engines."""

    name: str
    mark: str
    known: str  # how


def serving(report: Report) -> list[str]:
    """List the serving engines that read this model, by their sources."""
    if _has_quantized_embeddings(report):
        return []
    method = _method(report)
    return method.served_by(report.plan.recipe["format"])


def table(report: Report) -> list[Engine]:
    """Say of each engine, and of CPUs, whether it reads this model and how that is known."""
    return [_transformers(report), *(_server(name, report) for name in SERVING), _cpu(report)]


def _transformers(report: Report) -> Engine:
    form = report.plan.recipe["format"]
    needs = ", ".join(readers_of(form).packages)
    name = f"transformers with {needs}" if needs else "transformers"
    if form == "hubq":
        name = "transformers with this repo's reader, or after `import hubq`"
    if report.loader.startswith("transformers"):
        version = report.versions.get("transformers")
        what = f"{report.loader} {version}" if report.loader == "transformers" else report.loader
        return Engine(name, YES, f"tested: measured with {what}")
    return Engine(name, YES, f"by its sources; measured with {report.loader}")


def _server(name: str, report: Report) -> Engine:
    if name in serving(report):
        return Engine(name, YES, "by its sources; not run on this model")
    if _has_quantized_embeddings(report):
        return Engine(name, NO, "not known to read this format with quantized embeddings")
    return Engine(name, *_not_served(name, report))


def _not_served(name: str, report: Report) -> tuple[str, str]:
    """Say why an engine does not read this model, or why that is not known."""
    form, method = report.plan.recipe["format"], _method(report)
    readers = readers_of(form)
    if method.activation_bits is not None:
        return NO, "no kernels for rounded activations at these bits"
    if form == "bitsandbytes" and name == "vLLM":
        return NO, "its sources have no reader for this format any more"
    if not (readers.vllm if name == "vLLM" else readers.sglang):
        return NO, "no reader for this format"
    return NO, "no kernels for this format at these bits"


def _cpu(report: Report) -> Engine:
    if is_cpu(report.device):
        return Engine("without a GPU", YES, f"tested: measured on {report.device}")
    return Engine("without a GPU", UNKNOWN, f"not tried; measured on {report.device}")


def is_cpu(device: str) -> bool:
    """Tell whether a device's title is a processor's: those end with their threads."""
    return device.endswith((" threads", " thread")) or device.startswith("cpu")


def _has_quantized_embeddings(report: Report) -> bool:
    return bool(report.plan.recipe.get("embeddings", 16) < 16)


def in_memory(report: Report) -> str:
    """Say what becomes of the packed weights in the memory of what measured them."""
    form, unpacked = report.plan.recipe["format"], f"{report.dtype} weights"
    no_smaller = "so a smaller file is not smaller in memory"
    if report.efficiency and report.efficiency.engine.startswith("vLLM"):
        return (
            "vLLM reserves its share of the memory at once, for weights, keys and values, so this "
            "says little of the model's size."
        )
    if report.loader.startswith("hubq's own"):
        return (
            f"hubq's own reader unpacked the file to {unpacked} while it loaded, {no_smaller}; "
            "with gptqmodel installed they stay packed."
        )
    match form:
        case "compressed-tensors" if report.plan.recipe["method"].get("symmetric", True):
            return (
                "transformers loads the weights packed and unpacks them to "
                f"{unpacked} in the first forward pass, {no_smaller}."
            )
        case "compressed-tensors":
            return f"transformers unpacks the file to {unpacked} while it loads, {no_smaller}."
        case "hubq":
            return (
                f"transformers unpacks the file to {unpacked} while it loads, {no_smaller} unless "
                "it is kept packed, as the quick start shows."
            )
        case "gptq" | "awq":
            return "The weights stay packed in memory: the kernels of gptqmodel unpack them."
        case "bitsandbytes":
            return (
                "The weights stay packed in memory: each layer unpacks its own when it is called."
            )
    return "The file holds the weights as they are in memory."


def rounded_inputs(report: Report) -> str:
    """Say to what the method rounds each linear's inputs; nothing where it does not."""
    return _method(report).rounded_inputs


def _method(report: Report) -> "Method":
    """Return the method with the recipe's options."""
    from hubq.methods import method_class

    options = dict(report.plan.recipe["method"])
    return method_class(options.pop("name")).model_validate(options)


def about_loading(report: Report) -> dict[str, object]:
    """Return the names that the section on loading uses."""
    form = report.plan.recipe["format"]
    prompting = report.checkpoint.prompting
    return {
        "form": form,
        "engines": table(report),
        "serving": serving(report),
        "packages": " ".join(f"'{each}'" for each in readers_of(form).packages),
        "loader_file": LOADER,
        "hubq": hubq_in_words(),
        "in_memory": in_memory(report),
        "on_cpu": is_cpu(report.device),
        "chats": prompting is not None and prompting.template is not None,
    }


@cache
def project_url() -> str | None:
    """Return the address of the project that the installed package names; None: it names none."""
    try:
        named = metadata("hubq").get_all("Project-URL") or []
    except PackageNotFoundError:  # run from its sources
        return None
    pairs = (entry.split(",", 1) for entry in named)
    found = {label.strip().lower(): address.strip() for label, address in pairs}
    return next((found[label] for label in LABELS if label in found), None)


def hubq_in_words() -> str:
    """Name hubq so that a reader of a card can find it, in markdown."""
    url = project_url()
    return WITHOUT_ADDRESS if url is None else f"[hubq]({url}), the tool that made this repo"

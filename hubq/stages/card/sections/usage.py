"""What reads the files: each engine with how that is known, and what it takes to install."""

from functools import cache
from importlib.metadata import PackageNotFoundError, metadata
from typing import TYPE_CHECKING, Any, NamedTuple

from hubq.machine.engines import LOADER, readers_of
from hubq.records.engine_tests import ENGINES, Layout
from hubq.records.plan import Plan
from hubq.records.report import Report

if TYPE_CHECKING:
    from hubq.methods import Method
    from hubq.stages.lint.serving import Serving

YES, NO, UNKNOWN = "✓", "✗", "?"
SERVERS = ("vLLM", "SGLang")  # of which the card has a quick start
WHOLE, DENSE = 16, "dense"  # bits, and the format, of what is not quantized
LABELS = ("homepage", "repository", "source")  # of [project.urls] in pyproject.toml, best first
WITHOUT_ADDRESS = "hubq (the tool that made this repo; not on PyPI under that name)"


class Engine(NamedTuple):
    """One line of the table of engines."""

    name: str
    mark: str
    known: str  # how


def serving(report: Report) -> list[str]:
    """List the servers that read this model or, of one that sees, its language part."""
    found = served(report.plan, report.plan.architecture)
    return [engine for engine in SERVERS if found[engine].loads]


def served(plan: Plan, architecture: str | None = None) -> "dict[str, Serving]":
    """Ask lint's one function of each engine, as `hubq plan` does."""
    from hubq.stages.lint import serving

    method, recipe = planned_method(plan), plan.recipe
    layout = Layout(
        format=recipe["format"],
        bits=max(1, round(method.nominal_bits)),  # a fraction is of formats that none reads
        element_type=method.element_type,
        activation_bits=method.activation_bits,
        **_grid(method),
    )
    if layout.format == DENSE:
        layout = Layout(format=DENSE, bits=WHOLE)
    embeddings = recipe.get("embeddings", WHOLE) < WHOLE
    stored = serving.Stored(architecture or plan.published_architecture, (layout,), embeddings)
    return {engine: serving.serving(engine, stored) for engine in ENGINES}


def _grid(method: "Method") -> dict[str, Any]:
    """Return what tells layouts of integers apart; floats have one for each kind."""
    names = ("group_size", "symmetric") if method.element_type == "int" else ()
    return {name: getattr(method, name, None) for name in names}


def table(report: Report) -> list[Engine]:
    """Say of each engine, and of CPUs, whether it reads this model and how that is known."""
    servers = (_server(name, found) for name, found in served(report.plan).items())
    return [_transformers(report), *servers, _cpu(report)]


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


def _server(name: str, found: "Serving") -> Engine:
    mark = {True: YES, False: NO, None: UNKNOWN}[found.loads]
    # What was tried is another model whose linears lie like this one's.
    known = f"{found.known}; not run on this model" if found.loads else found.known
    return Engine(name, mark, known)


def _cpu(report: Report) -> Engine:
    if is_cpu(report.device):
        return Engine("without a GPU", YES, f"tested: measured on {report.device}")
    return Engine("without a GPU", UNKNOWN, f"not tried; measured on {report.device}")


def is_cpu(device: str) -> bool:
    """Tell whether a device's title is a processor's: those end with their threads."""
    return device.endswith((" threads", " thread")) or device.startswith("cpu")


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
    return planned_method(report.plan).rounded_inputs


def planned_method(plan: Plan) -> "Method":
    """Return the method with the recipe's options."""
    from hubq.methods import method_class

    options = {key: value for key, value in plan.recipe["method"].items() if key != "name"}
    return method_class(plan.recipe["method"]["name"]).model_validate(options)


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

"""The JSON Schema of recipes, with which editors complete and check them."""

from typing import Any

from hubq.formats import formats
from hubq.methods import Method, method_class, methods
from hubq.methods.adapters import Adapter, adapter_class, adapters
from hubq.records.named_texts import DRAWN_PICTURES, NAMED_TEXTS, TEXTS
from hubq.stages.recipe.matrix import AXES, EXCLUDE, FRONT, OPTIONS_TOO
from hubq.stages.recipe.recipe import MATRIX, Recipe

ONE_WORD = {
    "ModelSection": "a Hub id with an optional @revision, or a path to a folder or a .gguf file",
    "InstructionSection": "a Hub data set id, or a path to a file of pairs",
    "DatasetSection": f"one of {', '.join(TEXTS)}, a Hub data set id, or a path to a file",
    "CalibrationDataset": f"one of {', '.join((*NAMED_TEXTS, *DRAWN_PICTURES))}, a Hub data set "
    "id, or a path to a file",
    "WeightedDataset": "a data set in one word, of weight 1",
    "PerplexitySection": "a data set in one word",
    "TaskSection": "a task by its name",
}


def schema() -> dict[str, Any]:
    """Return the JSON Schema of recipes, every method with its own options."""
    found = Recipe.model_json_schema()
    found["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    found["title"] = "hubq recipe"
    found["properties"].pop("name")
    found["required"].remove("name")
    found["properties"]["format"] |= {"enum": formats()}
    found["properties"]["method"] = {
        "description": "how weights are quantized: a name and that method's own options",
        "oneOf": [{"enum": methods()}, *(_options(name, method_class(name)) for name in methods())],
    }
    of_adapters = [_options(name, adapter_class(name)) for name in adapters()]
    found["properties"]["adapt"] = {
        "description": "how the quantized model is taught or corrected: a name and that adapter's "
        "own options",
        "oneOf": [{"enum": adapters()}, *of_adapters],
    }
    definitions = found["$defs"]
    for each in of_adapters:
        definitions |= each.pop("$defs", {})
    definitions.pop("Method", None)
    definitions.pop("Adapter", None)
    for section, meaning in ONE_WORD.items():
        mapping = definitions[section]
        definitions[section] = {"anyOf": [{"type": "string", "description": meaning}, mapping]}
    _add_matrix(found)
    return found


def _add_matrix(found: dict[str, Any]) -> None:
    """Let a file make several recipes: their model and method may stand in its matrix."""
    kinds = [{"type": each} for each in ("string", "object", "integer", "null")]
    several = {"anyOf": [*kinds, {"type": "array", "items": {"anyOf": kinds}}]}
    about = {axis: f"`{axis}`, or a list of alternatives for it" for axis in AXES}
    about |= {axis: f"{about[axis]}; each option may be a list too" for axis in OPTIONS_TOO}
    axes = {axis: {**several, "description": text} for axis, text in about.items()}
    excluded = {
        "type": "array",
        "items": {"type": "object", "properties": {axis: {} for axis in AXES}},
        "description": "combinations that are not made, such as {method: {name: rtn, bits: 2}}",
    }
    found["$defs"]["MatrixSection"] = {
        "type": "object",
        "description": "Several recipes in one file: every combination of what its lists name. "
        "For all stages of all of them there is `hubq sweep`.",
        "properties": {**axes, EXCLUDE: excluded},
        "additionalProperties": False,
    }
    section = {"$ref": "#/$defs/MatrixSection"}
    found["properties"][MATRIX] = {
        "description": "makes several recipes of this file",
        "anyOf": [section, {"type": "array", "items": section}],
    }
    found["$defs"]["PublishSection"]["properties"]["only"] = {
        "const": FRONT,
        "description": "of a matrix: publish only what no other of its recipes clearly beats",
    }
    single = ("model", "method")
    found["required"] = [each for each in found["required"] if each not in single]
    found["if"] = {"not": {"required": [MATRIX]}}
    found["then"] = {"required": list(single)}


def _options(name: str, kind: type[Method] | type[Adapter]) -> dict[str, Any]:
    """Return the schema of the options of one method or adapter, told apart by its name."""
    found = kind.model_json_schema()
    found["properties"] = {"name": {"const": name}, **found["properties"]}
    found["required"] = ["name", *found.get("required", [])]
    return found

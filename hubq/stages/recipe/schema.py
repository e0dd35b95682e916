"""The JSON Schema of recipes, with which editors complete and check them."""

from typing import Any

from hubq.formats import formats
from hubq.methods import method_class, methods
from hubq.records.named_texts import NAMED_TEXTS
from hubq.stages.recipe.recipe import Recipe

ONE_WORD = {
    "ModelSection": "a Hub id with an optional @revision, or a path to a folder or a .gguf file",
    "DatasetSection": f"one of {', '.join(NAMED_TEXTS)}, a Hub data set id, or a path to a file",
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
        "oneOf": [{"enum": methods()}, *map(_method, methods())],
    }
    definitions = found["$defs"]
    definitions.pop("Method", None)
    for section, meaning in ONE_WORD.items():
        mapping = definitions[section]
        definitions[section] = {"anyOf": [{"type": "string", "description": meaning}, mapping]}
    return found


def _method(name: str) -> dict[str, Any]:
    """Return the schema of one method's options, told apart by its name."""
    found = method_class(name).model_json_schema()
    found["properties"] = {"name": {"const": name}, **found["properties"]}
    found["required"] = ["name", *found.get("required", [])]
    return found

"""Load folders or repos where hubq cannot be imported; run by tests as a process of its own.

Reads a JSON list of [name, packed] from stdin, writes each one's logits or error, and what kind of
layer it has, to the file that is named.
"""

import json
import sys
import warnings


class Absent:
    """Hides hubq from the import system."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Let nothing of hubq be found."""
        if name.partition(".")[0] == "hubq":
            raise ModuleNotFoundError(f"No module named {name!r}")


sys.meta_path.insert(0, Absent())
warnings.simplefilter("error")

import torch  # noqa: E402
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText  # noqa: E402


def answer(name: str, packed: bool) -> object:
    """Return a model's logits of some tokens and the class of a layer."""
    config = AutoConfig.from_pretrained(name)
    config.quantization_config["packed"] = packed
    sees = hasattr(config, "vision_config")
    auto = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    model = auto.from_pretrained(name, config=config, dtype=torch.bfloat16, trust_remote_code=True)
    with torch.inference_mode():
        logits = model(input_ids=torch.arange(40).view(2, 20)).logits
    return {"logits": logits, "layer": type(model.get_decoder().layers[0].mlp.up_proj).__name__}


def main() -> None:
    """Answer every request."""
    answers = []
    for name, packed in json.load(sys.stdin):
        try:
            answers.append(answer(name, packed))
        except (ValueError, RuntimeError) as error:
            answers.append({"error": str(error)})
    torch.save(answers, sys.argv[1])


main()

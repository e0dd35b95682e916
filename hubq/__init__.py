"""hubq: quantize, measure, document and publish LLaMA-family models on the Hugging Face Hub.

A folder imports only what stands below it in this list, and not what stands on its line:

    cli                      the commands
    stages, embedded_hub     the pipeline; a Hub on one's own machine
    formats                  how quantized weights lie in files
    methods                  how weights are quantized
    tensors                  what a method returns and a format packs
    sources                  where weights, texts and tasks come from
    client                   all talk with a Hub
    records                  what stages leave for one another
    machine, runtime         this computer; what reads the hubq format, also without hubq
    errors                   what the user can mend

Importing it lets transformers' `from_pretrained` read models in the hubq format. That is imported
inside functions, once transformers is: the command line must start at once.
"""

from typing import TYPE_CHECKING, Any

from hubq.runtime.registration import register_with_transformers

if TYPE_CHECKING:
    from hubq.runtime.quantizer import HubqConfig as HubqConfig

__version__ = "0.1.0"

register_with_transformers()


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    """Import HubqConfig, and with it transformers, only for those who use it."""
    if name != "HubqConfig":
        raise AttributeError(f"module 'hubq' has no attribute {name!r}")
    from hubq.runtime.quantizer import HubqConfig

    return HubqConfig

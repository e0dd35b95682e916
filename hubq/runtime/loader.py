"""What the file that a repo carries has besides the quantizer: a class for config.json to name."""

from typing import Any

import transformers


class HubqForCausalLM:
    """What config.json's auto_map names: it hands over to transformers' own class of the model.

    To find it transformers imports the file, and with that the quantizer registers itself.
    """

    @classmethod
    def register_for_auto_class(cls, auto_class: object = None) -> None:
        """Do nothing: models are of transformers' own classes, so saved copies need no code."""

    @classmethod
    def from_pretrained(
        cls,
        name: object,
        *arguments: object,
        config: Any,  # noqa: ANN401 - a PreTrainedConfig
        **options: object,  # transformers' own, which are many
    ) -> Any:  # noqa: ANN401 - a PreTrainedModel
        """Load the model."""
        architecture = getattr(transformers, config.architectures[0])
        return architecture.from_pretrained(name, *arguments, config=config, **options)

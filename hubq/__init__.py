"""hubq: quantize, measure, document and publish LLaMA-family models on the Hugging Face Hub."""

__version__ = "0.1.0"

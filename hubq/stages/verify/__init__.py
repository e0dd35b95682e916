"""Whether a release is what it says, whoever published it: files, signature, card, bits, base.

In comes a repo at a commit or a folder, gathered as `hubq lint` does, with every small file; of the
weights the headers alone, unless all is downloaded. `table.py` has the checks, one small function
each; out comes what each found. huggingface_hub is imported inside functions, and model-signing,
which may not be installed.
"""

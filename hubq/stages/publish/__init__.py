"""The last stage and the only one that writes to a Hub: one commit, then the proof that it arrived.

In come a run and its Report, out come a Publication; `space` deploys the page that shows releases.
huggingface_hub is imported inside functions: who reads a Publication needs none.
"""

"""Texts that calibrate and measure, from wherever a recipe names them.

In comes a data set's section; out comes a Corpus, its documents joined as its protocol says. What
others wrote is read within bounds. It may import what other sources may. huggingface_hub,
pyarrow and yaml are imported inside functions, since a text in a plain file needs none of them.
"""

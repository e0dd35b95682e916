"""Answers and scores of models: in turn, within the memory there is, each model in a process.

In comes a request or a scoring as a record (`messages`), out come events, the last of which says
how it ended, and what a base says of an answer. It may import `releases` and hubq; knows no Gradio,
but for words in which ZeroGPU refuses.
"""

"""The compiled loops, one file a kind, each with its shapes; numba compiles them once a machine.

In come arrays, out come arrays: they know nothing of models, and may import one another alone.
numba is imported inside functions, so that tensors can be had without waiting for it.
"""

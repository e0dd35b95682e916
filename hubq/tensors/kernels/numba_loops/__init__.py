"""The loops for CPUs, compiled by numba once a machine: they take arrays.

numba is imported inside functions, so that tensors can be had without waiting for it.
"""

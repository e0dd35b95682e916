"""The loops over a layer's weights: one signature each, and an implementation by device.

A file here has a loop's shapes and says what comes of NaN. For a CPU it calls the loop in
numba_loops/, for CUDA and ROCm the one in triton_loops/ where Triton is installed; else, and for
what is quick in whole tensors, torch_loops/, on whatever device. `choice.py` alone decides which.
Only rounding columns in turn needs Triton: each step waits for the one before, and in plain torch
launches a dozen kernels. Nothing is copied between the devices, and results of two devices are
equal but for near ties: they divide and multiply alike, but not all fuse a product with a sum.

In come tensors, out come tensors: they know nothing of models, and may import one another alone.
numba and triton are imported inside functions, so that tensors can be had without waiting for
them, and without triton.
"""

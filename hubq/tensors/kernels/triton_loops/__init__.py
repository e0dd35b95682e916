"""The loops for CUDA and ROCm, compiled by Triton: whoever imports a file here needs it installed.

Kernels call only what is built into triton.language, so that they can be interpreted on a CPU.
"""

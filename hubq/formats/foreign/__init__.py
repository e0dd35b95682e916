"""Quantized modules that anyone wrote, read and checked against their config.

In come tensors and a quantization_config of a stranger; out come representations, or an error that
says what is wrong with them. It may import the contract of formats, and the floors below.
"""

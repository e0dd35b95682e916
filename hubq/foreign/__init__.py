"""Quantized modules that anyone wrote, read and checked against their config."""

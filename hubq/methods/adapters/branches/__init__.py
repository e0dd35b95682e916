"""What stands beside a frozen linear, or in its place, while it is trained.

In come the inputs of a linear, out goes what is added to its outputs, differentiable by float32
parameters. It imports torch and `hubq.tensors`, and knows neither models nor devices.
"""

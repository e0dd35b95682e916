"""The third stage: the model walked block by block, quantized, packed and written.

In comes a Plan, out comes a Checkpoint beside the folder of the model; a killed walk goes on after
its last finished block. It imports torch, so the verb imports the walk inside functions.
"""

"""The fourth stage, where a recipe asks for it: a quantized model taught, or corrected.

In come a Plan and the Checkpoint of run/model; out comes an Adaptation beside run/adapted/model,
which is a whole model, or the quantized one with an adapter in its folder `adapter`. Training
imports torch and transformers, so the verb imports it inside functions. peft is never needed.
"""

"""The loops in plain torch, for every device: they take tensors, and leave all on their device."""

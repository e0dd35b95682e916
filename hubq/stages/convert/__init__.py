"""Beside the pipeline: a quantized folder of anyone's in another format, proven module by module.

In come a folder and a request, out come a folder and the record of what became of each module.
Transcoding imports torch, so it is imported inside functions, once the request is understood.
"""

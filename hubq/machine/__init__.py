"""What hubq knows of the machine it runs on: files, devices, meters, engines, progress.

Everybody may ask it; it may import `hubq.errors` alone, and keeps no state of a run. Libraries that
it asks after (torch, pynvml) are imported inside functions: what only writes files needs none of
them.
"""

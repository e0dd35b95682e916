"""Talks with a Hub, and believes nothing that it answers before its form was checked.

In come a Hub's address and the names of repos; out come verified files, and commits that the Hub
holds. It retries what passes, sends each token to its own Hub alone, and turns refusals into words.
It may import `hubq.errors`, `hubq.machine` and `hubq.records`. huggingface_hub and httpx2 are
imported inside functions: a plan of files that lie here needs neither.
"""

"""What changed since releases were published: their bases, the rules of engines, their files.

In come an organization and its Hub, out comes a `Watch`; nothing is written. Only listings, headers
and small files are read. huggingface_hub is imported inside functions.
"""

"""The Space as hubq ships it: found, served here, deployed to a Hub, or built as a static page.

In come an organization and settings, out come a running page or one verified commit. It may import
what the stage may; the app itself lies in the folder `space/` beside hubq. huggingface_hub, jinja2
and markdown-it are imported inside functions: each way to show the Space needs but one of them.
"""

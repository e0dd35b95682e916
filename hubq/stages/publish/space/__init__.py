"""The Space as hubq ships it: found, served here, deployed to a Hub, or built as a static page.

In come an organization and settings, out come a running page or one verified commit.
"""

"""What visitors meet: the tabs with what their buttons do, charts, links, endpoints, the guard.

In come the clicks and requests of browsers and programs, and what the lower rooms know; out go
components and HTML in which all text is escaped. It may import `serving`, `releases`, `votes` and
hubq; only `app.py` imports it.
"""

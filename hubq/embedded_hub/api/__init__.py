"""The embedded Hub's request handlers: one file a subject, each with the table of its routes.

A call comes in whose visitor the route has admitted, and an answer goes out in the Hub's own form;
what may be refused, and what is kept, is decided by the modules below `api` in the list of
`hubq.embedded_hub`. Handlers may import all of those, and of one another `pages` takes
`discussions` and `files`, and `repos` takes `spaces`. Only `app` imports them.
"""

"""The request handlers: one file a subject, each with the table of its routes."""

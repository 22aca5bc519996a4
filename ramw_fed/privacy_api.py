"""The verbs of privacy as functions: what ``ramw-fed privacy`` calls, and a notebook may."""

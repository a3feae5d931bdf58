"""The client of the Engine API: transport, and one module per resource.

Everything here is on the command line's hot path: it imports C modules and `lamina.errors` alone
(a test pins the list), speaks JSON through `_json`, and leaves checking of documents to the engine.
Paths carry no version: an engine answers those in its newest one, so one client drives old and new.
"""

"""Docker's Engine API over HTTP/1.1: our own server, a table of routes, one file per resource."""

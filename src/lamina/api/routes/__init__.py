"""The routes, one file per resource; each gives a table `ROUTES`."""

"""The routes, one file a resource; each gives a table `ROUTES`."""

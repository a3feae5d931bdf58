"""Images as files: docker-archive and OCI layouts in tars, in both directions, and root file systems to import."""

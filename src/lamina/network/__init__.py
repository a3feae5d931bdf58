"""Networks. Today: a container has the host's network, or only a loopback interface."""

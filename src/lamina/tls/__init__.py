"""TLS beside a plain connection: the daemon and its clients go on reading and handing over ordinary sockets."""

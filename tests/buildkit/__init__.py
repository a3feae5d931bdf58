"""BuildKit's protocol: its wire format, and whole builds by a client of its own."""

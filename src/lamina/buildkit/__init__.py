"""BuildKit's protocol: gRPC over hijacked connections, its messages, and what they ask of the builder."""

"""Pure formats: digests, references, descriptors, manifests, configurations. No I/O, no clock."""

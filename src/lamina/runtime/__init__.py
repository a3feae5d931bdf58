"""From a bundle to a running process: plan, init, zygote, monitor, keeper."""

"""Side by side: Lamina and its peers on the same work, in one run, as ratios. `./dev bench --help`."""

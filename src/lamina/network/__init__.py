"""Networks: bridges, addresses, names and published ports, by netlink and nftables; what is done to the host for them."""

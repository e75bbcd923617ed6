"""Networks, ports, addresses and security groups have their place here."""

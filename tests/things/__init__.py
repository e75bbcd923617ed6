"""A second kind of resource on hosts, as small as one can be. What holds of it, holds of volumes and networks."""

"""Hosts in the REST API, for admins of the cloud."""

"""The event log in the REST API."""

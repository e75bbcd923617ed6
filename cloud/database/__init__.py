"""Django's PostgreSQL backend (DATABASES.ENGINE), which asks less often whether a connection still works: `base`."""

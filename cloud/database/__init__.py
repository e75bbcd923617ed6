"""Django's PostgreSQL backend (DATABASES.ENGINE), which does less for each request and each moment of time: `base`."""

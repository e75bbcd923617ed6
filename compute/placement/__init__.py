"""Which host an instance goes to, why, and how much room is left."""

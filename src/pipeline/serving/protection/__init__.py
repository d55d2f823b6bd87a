"""What stands before the endpoint: who may ask, how often, how many at once and how long, and what is kept of it."""

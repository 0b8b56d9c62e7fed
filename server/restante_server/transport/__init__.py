"""How connections reach the services."""

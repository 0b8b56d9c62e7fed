"""What the relay does for a connection; it knows the store's contract and nothing of the web."""

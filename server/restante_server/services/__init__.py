"""What the relay does with frames, knowing neither a database nor a web framework."""

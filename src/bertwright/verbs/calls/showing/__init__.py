"""What `show` shows: a file a kind of thing."""

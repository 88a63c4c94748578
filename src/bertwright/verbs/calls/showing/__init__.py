"""What `show` shows, a kind of thing a file."""

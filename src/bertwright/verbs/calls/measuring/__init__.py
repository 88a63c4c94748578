"""What `bench` calls: its flags, and the measurements of each stage."""

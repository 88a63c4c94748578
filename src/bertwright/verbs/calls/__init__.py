"""What a call of a verb asks for, checked before it is carried out: its flags, its inputs, a dry run."""

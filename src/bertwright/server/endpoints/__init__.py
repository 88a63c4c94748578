"""The endpoints: what each does with a request, and the table of them all."""

"""Shows runs while they train, as curves on a page: a file of figures, a page, the routes of a server."""

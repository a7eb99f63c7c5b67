"""Tasks: what a network is trained for, from the data to the score; the search knows nothing else of it."""

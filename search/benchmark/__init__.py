"""The published benchmark table as something that runs: rows and recipes are data, one loop trains all of them."""

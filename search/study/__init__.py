"""A study: a search by any number of workers, its trials and where they are stored."""

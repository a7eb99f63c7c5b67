"""What is done with networks that are stored: no training."""

"""Search for the smallest WaveMixLite network that reaches a target accuracy, and keep the evidence."""

"""Search for the smallest WaveMixLite network which reaches a target accuracy: data, training, studies, records."""

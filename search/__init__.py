"""Search for the smallest WaveMixLite network that reaches a target accuracy, and keep the evidence."""

import wavemix  # noqa: F401  settles how PyTorch's threads wait, before anything loads it

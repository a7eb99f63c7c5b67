"""Data sets: finding, checking, decoding and splitting them."""

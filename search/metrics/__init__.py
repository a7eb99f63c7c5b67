"""What a number measures: the field's standard metrics, and what upstream's published code computes in their place."""

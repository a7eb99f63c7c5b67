"""Training: recipes, steps, checkpoints and evaluation of a stack of networks."""

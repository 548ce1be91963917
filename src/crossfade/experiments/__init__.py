"""Experiments: what people ask for, their life, what the numbers say, and what follows from them."""

"""Small pure tools that every capability may use."""

"""What an answer may be: checks of every prediction, what is given instead of an unsafe one, and emergency mode."""

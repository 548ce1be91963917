"""Models and their versions: registering, finding, comparing, moving and loading them."""

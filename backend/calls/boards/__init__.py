"""How the ways to speak and to hear stand, for all calls."""

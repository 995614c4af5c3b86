"""Classification networks, a paper a file."""

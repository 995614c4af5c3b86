"""Networks that label every pixel, a paper a file."""

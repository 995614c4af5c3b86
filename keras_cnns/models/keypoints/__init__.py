"""Networks that find the joints of a person."""

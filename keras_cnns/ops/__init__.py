"""Pure functions of tensors and arrays: no layers, no files, no state."""

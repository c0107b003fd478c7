"""Task families of the pocket world, one module per category."""

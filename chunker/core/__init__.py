"""Integer arithmetic: what decides the bits of an archive, and what histories compute with; never torch."""

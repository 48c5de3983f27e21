"""The coding half: integers in numpy, an entropy coder and the archive; never torch."""

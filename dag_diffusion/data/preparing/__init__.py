"""Folders as they are found, made into pools that can be trained on: looked at, freed of twins, divided in two."""

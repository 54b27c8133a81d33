"""The diffusers pipeline.  Import it from ``dag_diffusion``: by this path it would be a second, different class."""

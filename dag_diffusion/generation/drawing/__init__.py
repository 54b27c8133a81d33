"""What draws the images of a pool: our own pipeline by labels, or any of diffusers' from prompts or by labels."""

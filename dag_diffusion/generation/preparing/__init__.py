"""What guidance needs beforehand: modes of real images are found, probes are trained."""

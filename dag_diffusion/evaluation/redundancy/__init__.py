"""What a set says twice, and what of the real images it leaves out."""

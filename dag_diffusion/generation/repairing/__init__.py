"""What is wrong with images of a pool, and how they are drawn again."""

"""What a distillation will need, found out without doing any of it: models, images, disk, memory, time, commands."""

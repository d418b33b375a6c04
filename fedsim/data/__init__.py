"""Where images come from and who holds them: sources, partitions, appearance, population."""

"""Parts for fedsim, brought by another package."""

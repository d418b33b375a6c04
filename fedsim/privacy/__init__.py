"""What protects the people whose images are trained on, and what that costs."""

"""What a site does in a round: batches, local objectives, training, evaluation.

Stands alone: torch and pydantic, nothing of the simulator, so that any Flower ClientApp can use it.
"""

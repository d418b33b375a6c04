"""What the simulated sites run on, and a virtual clock that says how long they take.

Everything here is a function of numbers: device profiles, counted operations, bytes, named random
streams. Nothing knows of Flower, and torch is loaded only where a network is measured.
"""

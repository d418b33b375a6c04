"""What attacks find out in fact, beside what the ledger says they can at most.

An accounted epsilon is a promise about code. Here the code is run: `mechanism` puts known inputs
through it and tests what comes out, `one_run` trains with canaries and guesses which were there,
`membership` tries to tell training images from others, and `inversion` draws what a server could
see of an image. `session` does what is asked and writes `audit.json`.
"""

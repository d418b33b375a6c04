"""A study: methods compared over settings and seeds, each run an ordinary run folder.

study_file    the contract: what a study file may say
load          from a file to a valid study, or to errors that say where and how
cells         one scenario per method, setting, seed and trial
trials        which values the tuning tries; choice: which of them a method gets
folder        what a study leaves behind
inventory     which cells are there already
crew          the processes that run cells; runner: which cell is next, until all are done
forecast      what a study would run, how long it takes
"""

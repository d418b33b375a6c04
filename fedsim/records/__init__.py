"""The run folder: what a run leaves behind, written so that nothing finished can be lost.

    scenario.yaml        the resolved scenario
    run.json             format version, digest, checkpoint settings
    population.json      sites by class and split, appearance parameters, data checksums
    environment.jsonl    versions and hardware, one line per start of the run
    rounds.jsonl         one line per round: cohort, losses, bytes, loss decomposition
    metrics.jsonl        one line per value; pandas.read_json(path, lines=True)
    timing.jsonl         real seconds, one line per round executed
    log.txt              what happened, for people
    checkpoints/         global model and every state needed to go on
    report/              tables and figures, made again by `fedsim report`

`rounds.jsonl`, `metrics.jsonl` and the checkpoints hold the same bytes whenever the same scenario
runs on the same hardware and versions; everything that may differ stands in the other files.
"""

from fedsim.records.folder import RunFolder
from fedsim.records.read import RunRecord, Selection, read

__all__ = ["RunFolder", "RunRecord", "Selection", "read"]

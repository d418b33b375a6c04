"""The run folder: what a run leaves behind, written so that nothing finished can be lost.

    scenario.yaml        the resolved scenario
    run.json             format version, digest, checkpoint settings
    population.json      sites by class and split, appearance parameters, licence and checksums
                         of the data
    environment.jsonl    versions and hardware, one line per start of the run
    rounds.jsonl         one line per round: cohort, losses, bytes, loss decomposition
    metrics.jsonl        one line per value; pandas.read_json(path, lines=True)
    timing.jsonl         real seconds, one line per round executed
    log.txt              what happened, for people
    checkpoints/         global model and every state needed to go on
    report/              tables and figures, made again by `fedsim report`

A row of `metrics.jsonl`: one metric of one model, split and site.

    round          int          0 is the initial model
    split          str          "validation" or "test"
    site           str          a site's name, or "pooled" for the images of all sites together
    metric         str          as in the scenario's evaluation.metrics
    value          float|null   null if the images do not determine it
    num_examples   int          images of the split
    num_valid      int          images that the value rests on

A row of `rounds.jsonl`: one round from 1 on; site names in site order.

    round               int            from 1
    cohort              list[str]      sites that took part, may be empty
    train_loss          float|null     mean over the cohort weighted by examples; null if the cohort
                                       is empty or the loss not finite
    site_train_loss     {str: float|null}  mean local objective of each site of the cohort
    num_examples        {str: int}     training examples of each site of the cohort
    bytes_down          int            arrays sent to the cohort
    bytes_up            int            arrays sent back
    loss_decomposition  object|null    null if not asked for, not evaluated in this round, or
                                       without a cohort; else
        local_loss, distribution_shift_loss, aggregation_loss, global_loss    float|null
        num_local_examples, num_pooled_examples                               int

`rounds.jsonl`, `metrics.jsonl` and the checkpoints hold the same bytes whenever the same scenario
runs on the same hardware and versions; everything that may differ stands in the other files.
"""

from fedsim.records.folder import RunFolder
from fedsim.records.read import RunRecord, Selection, read

__all__ = ["RunFolder", "RunRecord", "Selection", "read"]

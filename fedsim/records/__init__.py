"""The run folder: what a run leaves behind, written so that nothing finished can be lost.

    scenario.yaml        the resolved scenario
    run.json             format version, digest, checkpoint settings, what trials chose before
    population.json      who held what, and what the images are
    environment.jsonl    versions and hardware, one line per start of the run
    rounds.jsonl         one line per round: cohort, losses, bytes, loss decomposition
    metrics.jsonl        one line per value; pandas.read_json(path, lines=True)
    ledger.jsonl         what leaves the sites of a run that protects anything, one line per
                         release, written before it; see `fedsim.privacy.ledger`
    timing.jsonl         real seconds, one line per round executed
    baselines.jsonl      values of the yardsticks, one line each; written at the end
    test_units.json      whose each test image is
    intervals.jsonl      bootstrap intervals of test values; written last of all
    log.txt              what happened, for people
    checkpoints/         global model and every state needed to go on
    predictions/         what the final and the best model say of every held-out image
    baselines/           the same of each training for comparison
    memory/              what simulated sites keep from round to round, if they keep anything
    audit.json           what `fedsim audit` found, if it was asked; see `fedsim.records.audit`
    report/              tables and figures, made again by `fedsim report`

A row of `metrics.jsonl`: one metric of one model, split and site.

    round          int          0 is the initial model
    split          str          "validation" or "test" (of the sites that train), or "external"
    site           str          a site's name, or "pooled" for the images of all sites together, or
                                "server" where that holds what is held out;
                                of split "external" a site held out as a whole or an external set
    metric         str          as in the scenario's evaluation.metrics
    value          float|null   null if the images do not determine it
    num_examples   int          images of the split
    num_valid      int          images that the value rests on

A row of `rounds.jsonl`: one round from 1 on; site names in site order.

    round               int            from 1
    cohort              list[str]      sites that took part, may be empty
    dropped             list[str]      sites of the cohort that failed, in a scenario that says
                                       `on_client_failure: drop`
    attackers           list[str]      sites of the cohort that attacked (population.adversaries);
                                       their other numbers in this row are what they report
    out_of_budget       list[str]      of private runs: sites of the cohort that may release no more
    absent              list[str]      sites that were asked but not there (outages, availability)
    virtual             object|null    null without population.devices; else the round on the
                                       virtual clock, in simulated seconds since the run began:
        begin_s, end_s  float
        tasks           list           every site that worked for this round, in site order:
            site            str
            counted         bool       false if it came too late: it worked in vain
            staleness       int        global models made between its start and this round
            start_s, downloaded_s, computed_s, uploaded_s    float    of a late site until the
                                       round's end
    train_loss          float|null     mean over the cohort weighted by examples; null if the cohort
                                       is empty or the loss not finite
    site_train_loss     {str: float|null}  mean local objective of each site of the cohort, without
                                       what a regulariser adds to it
    num_examples        {str: int}     training examples of each site of the cohort
    bytes_down          int            arrays sent to the cohort
    bytes_up            int            arrays sent back
    loss_decomposition  object|null    null if not asked for, not evaluated in this round, or
                                       without a cohort; else
        local_loss, distribution_shift_loss, aggregation_loss, global_loss    float|null
        num_local_examples, num_pooled_examples                               int

A row of `baselines.jsonl`: the columns of `metrics.jsonl`, with round null where each site has its
own, and in front

    baseline       str          "pooled" (one training on the images of all sites), "local" or
                                "unshrunk" (the run's own, see `fedsim.flower.unshrinking`)
    model          str          "final" or "best" (by validation, for "local" each site's own)
    trained_at     str          "pooled", or the site whose images the model learned from; in rows
                                of "local" with site "pooled" every site is judged by its own model

A row of `intervals.jsonl`: one percentile bootstrap interval on split "test" or "external".

    method         str          "federated", "pooled", "local" or "unshrunk"
    model          str          "final" or "best"
    split, site, metric         as in `metrics.jsonl`; of single sites only the selecting metric
                                of the final model
    low, high      float|null   null if fewer than half of the resamples determine the metric
    confidence     float        0.95
    num_resamples  int          resamples that determine it
    unit           str          what is drawn: "image", or "patient" where patients are known

`test_units.json`: unit ("image" or "patient") and sites {name: [a number for each test image, in
the order of the predictions]}; the same unit has the same number in all runs on the same data.
Where columns of few values describe them: attributes {column: {site: [a value for each test
image]}}.

`population.json`: task, target_unit (of a regression), class_names; images {num_channels,
image_size, synthetic}; sites [{name, train, validation, test}] and external [{name, test}] with
examples per class; drawn (how sites draw their training images from a pool, see
`fedsim.data.drawn_sites`; then sites holds one row of the name "server", whose train is the pool;
else null); duplicates (images that are there twice, see `fedsim.data.duplicates`); licence,
citation and checksums of the data; appearance {site: parameters}, empty for drawn sites;
num_mislabelled {site: training examples}; shared_patients [{sites, num_patients}], of training
images; knowledge {site: knows ("labels", "bags" or "nothing"), bags {split: num_bags, smallest,
largest, num_pure (null of real numbers)}, and where numbers were truncated what the simulator alone
knows, truncated {split: num, num_moved, shift of the mean}}, but for sites that plainly know all
labels; devices {site: name of its device}, empty without any; adversaries [{kind, from_round,
sites}], one of each in the scenario, with the sites that attack.

`rounds.jsonl`, `metrics.jsonl`, `ledger.jsonl`, `baselines.jsonl`, `intervals.jsonl`, the
predictions and the checkpoints hold the same bytes whenever the same scenario
runs on the same hardware and versions; everything that may differ stands in the other files.
"""

from fedsim.records.folder import RunFolder
from fedsim.records.read import RunRecord, Selection, read

__all__ = ["RunFolder", "RunRecord", "Selection", "read"]

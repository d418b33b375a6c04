"""What theory says of a linear model that learns from bags, and of the best bag size.

linear_risk    risk of bag, instance and interpolated loss, of EasyLLP and of tuned ridge
bag_size       noise that protects the labels, and the bag size it makes best
advice         both as a table and sentences, for assumed levels of signal and noise

The setting is that of Javanmard, Chen, Mirrokni, Badanidiyuru and Fu, "Learning from Aggregate
responses: Instance Level versus Bag Level Loss Functions", ICLR 2024. Only the paper's abstract and
reviews of it were at hand, not its text: formulas here are our own derivations, checked by
simulation; where a result of the paper was reported in a review, they agree with it.
"""

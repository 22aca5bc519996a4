"""FedAvg: the mean of the centers' weights.

McMahan et al., AISTATS 2017, https://arxiv.org/abs/1602.05629.
"""

from ramw_fed.methods.method import Method

FEDAVG = Method(name="fedavg")

"""What a read would cost, before anybody waits for it."""

from cubeingest.cost.query import EXAMPLES, parse_query
from cubeingest.cost.reads import Reads, count_reads
from cubeingest.cost.report import Cost, Link, VariableCost, read_cost

__all__ = ["EXAMPLES", "Cost", "Link", "Reads", "VariableCost", "count_reads", "parse_query", "read_cost"]

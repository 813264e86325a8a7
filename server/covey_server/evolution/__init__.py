"""Evolution of a population: fitness, selection, mutation and lineage, on members with unpadded weights."""

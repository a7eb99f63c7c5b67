"""What others have published: figures, how they came about, and peers' networks. Facts as data, each with its source.

`figures.csv` holds every figure that upstream states or that its papers and leaderboards are said to, `protocols.toml`
what its published scripts compute, `peers.csv` other authors' networks. The networks behind upstream's figures are in
`search.upstream`, from where they can be built and counted.
"""

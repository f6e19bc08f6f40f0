.PHONY: run test bench

# Builds the console and the release binary, and serves examples/gateway.yaml.
run:
	@bash examples/run

# Everything, installing what it lacks.
test:
	@bash .ci/run

# Side by side with nginx and a plain proxy; writes README's tables. What parts cost alone: cargo bench.
bench:
	@bash benches/load/run

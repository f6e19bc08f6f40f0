.PHONY: run test bench

# Builds the console and the release binary, and serves examples/gateway.yaml.
run:
	@bash examples/run

# Everything, installing what it lacks.
test:
	@bash .ci/run

bench:
	@cargo bench

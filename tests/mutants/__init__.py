"""Rules of the product broken on purpose, one at a time, to see whether the tests notice: `make mutants`."""

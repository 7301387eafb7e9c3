"""The report of a classifier: scores with intervals, calibration, groups and slices, examples, comparisons."""

"""What tests share: scenes with a known truth, small configurations, runs of one block."""

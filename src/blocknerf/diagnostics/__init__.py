"""What is wrong with a capture, a block or a run: checks that end in plain sentences, and pictures of one ray."""

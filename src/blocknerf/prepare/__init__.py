"""From photographs or video to a scene with poses: the work of `blocknerf prepare`."""

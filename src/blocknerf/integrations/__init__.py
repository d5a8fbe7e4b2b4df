"""Where other programs call this one."""

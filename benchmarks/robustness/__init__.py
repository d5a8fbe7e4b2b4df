"""Campaigns that try to break the program: whatever files people bring, faults at every call, kills, two at once."""

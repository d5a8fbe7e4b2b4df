"""Campaigns that try to break the program: hostile files, faults at every call, kills, two commands at once."""

"""Where agents ask the gateway: a client of its decisions, and one adapter a file for each library of agents.

Every adapter imports its library at the top, is optional, and only translates. What it cannot read is not let through.
"""

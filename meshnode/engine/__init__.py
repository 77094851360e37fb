"""Engines: what runs models on this machine or at configured URLs, found, spoken to, and where needed started.
"""

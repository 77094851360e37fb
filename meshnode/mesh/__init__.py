"""The mesh as this node lives it: links kept up, gossip carried, invites given and taken.

Drives gossip and identity over net. Not for jobs (dispatch takes those streams) nor for choosing (routing).
"""

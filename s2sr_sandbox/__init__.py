"""The sandbox: Sentinel-2 L2A products over a made-up landscape whose truth is known, for tests and demonstrations.

Not imagery: no pixel of it was ever seen by a satellite.
"""

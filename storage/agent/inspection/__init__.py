"""Inspection of tenants' images before any program opens them: what a file is, and that it is nothing but itself.

Programs that read disk images follow what is written in them to other files of the host, to its network, or into
exhaustion. So each file is read here first, by readers that follow nothing, and refused unless it is whole and plain.
"""

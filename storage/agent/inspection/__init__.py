"""Inspects tenants' images before any program opens them: their format, and that they refer to no other file.

Programs that read disk images follow what is written in them to other files of the host, to its network, or into
exhaustion. So each file is read here first, by readers that follow nothing, and refused unless it is whole and plain.
"""

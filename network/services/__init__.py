"""What may be done with networks and what belongs to them: one module for each kind of resource.

Whatever changes the shape of a project's networks takes the lock of its quota first, so that checks hold until the
commit. What only a machine's workflow does (`ports.bind`, `ports.release`) locks the ports instead.
"""

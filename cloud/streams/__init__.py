"""Streams: the process that holds connections on which mostly nothing happens. decisions/0001 says why it is one."""

"""Why a connection does not come about: the way of its first packet, hop by hop, and what stands in it.

`walk` reads the rows as they are now, and changes nothing; what hosts see beside that is in `evidence`. Apps above add
what they know of the two ends.
"""

class Trouble(Exception):
    """Something in the way that the person at the keyboard can do something about; the message says what."""

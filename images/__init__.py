"""Recipes that build Pileus's guest images from Debian packages, as any user, with nothing mounted."""

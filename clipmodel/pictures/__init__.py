"""Encoded bytes -> a Pillow picture of 8 bits a value, whatever the bytes: bounded in memory and in work.

`opening.py` tells the story. `kinds.py` names a file's type from its content; `headers.py` and a file a format look
at what decoding it will take, before Pillow does; `limits.py` says how much that may be.
"""

"""Files on disks and in object stores: where they are, read ahead, tried again, written whole or not at all."""

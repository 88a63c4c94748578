"""Turns files of raw text into token shards on disk, once, on CPU, without torch."""

"""Many recipes at once: a queue of members, where they work, and what came out of all of them.

In come the planned recipes of some files, out come the run folders of all, and the family's card.
A member is the ordinary command on one recipe, so all that it does is resumable by itself. The
queue knows no machine: an executor (`hubq/stages/sweep/executor.py`) says where one may begin,
starts, watches and stops it.
"""

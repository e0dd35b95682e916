"""Blind comparisons: which side is which until the vote, votes as they are kept, who wins.

In come names of models and choices of visitors; out come votes, in a file and, where a setting
names one, in a data set of the Hub, and the leaderboard. It may import hubq alone.
"""

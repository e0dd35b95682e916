"""The Space as hubq ships it: found, served on this machine, deployed to a Hub."""

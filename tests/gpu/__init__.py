"""Tests on a GPU that is imitated, since none is needed to find most faults of code for one."""

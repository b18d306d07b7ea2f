"""Attacks on updates: was a record among those that a seen update, or a sum of several, was trained on?"""

"""Scores, paired statistics, figures and the report; needs neither torch nor MONAI."""

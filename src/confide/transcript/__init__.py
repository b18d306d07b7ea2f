"""What each party of a run saw, kept on purpose for an audit and marked private."""

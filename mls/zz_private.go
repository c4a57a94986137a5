package mls

// stagedPrivate is what a Group keeps with a StagedCommit.
type stagedPrivate struct{}

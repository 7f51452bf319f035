package node

// SetStorageMax replaces Options.StorageMax at once, also for Fetches that run.
// What the repo has already beyond a lower limit stays; nothing is added until
// it is below.
func (n *Node) SetStorageMax(bytes int64) {
	n.space.mu.Lock()
	defer n.space.mu.Unlock()
	n.opts.StorageMax = bytes
}

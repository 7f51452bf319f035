package node

// SetStorageMax replaces Options.StorageMax at once. What the repo has already
// beyond a lower limit stays, and a Fetch that runs keeps the room that it was
// promised; nothing else is added until the repo is below.
func (n *Node) SetStorageMax(bytes int64) {
	n.space.mu.Lock()
	defer n.space.mu.Unlock()
	n.opts.StorageMax = bytes
}

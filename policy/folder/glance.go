package folder

import (
	"io/fs"
	"os"
	"time"
)

// glanceEvery is how often what lies there is compared with what was seen
// last. A watch ends with the folder that it is on, so that one which takes
// its place later would go unnoticed.
const glanceEvery = time.Second

// An entry is what tells, unread, that a folder or a file has changed.
type entry struct {
	path string
	info fs.FileInfo // nil: not there
}

func (e entry) same(o entry) bool {
	if e.info == nil || o.info == nil {
		return e.path == o.path && e.info == o.info
	}
	return e.path == o.path && os.SameFile(e.info, o.info) && e.info.Mode() == o.info.Mode() &&
		e.info.Size() == o.info.Size() && e.info.ModTime().Equal(o.info.ModTime())
}

// glance tells what lies at the place: the folder, and the files that Read
// would read.
func (p Place) glance() []entry {
	paths := []string{p.watched()}
	if p.File != "" {
		paths = append(paths, p.File)
	} else if files, err := list(p.Dir); err == nil {
		paths = append(paths, files...)
	}
	entries := make([]entry, len(paths))
	for i, path := range paths {
		entries[i].path = path
		if info, err := os.Stat(path); err == nil {
			entries[i].info = info
		}
	}
	return entries
}

// Package audio holds the audio that comes with the program: the programme of
// a small demo station, speech and music in every container that radio uses.
//
// It knows nothing of what the files say about themselves; README.md lists it.
package audio

import (
	"embed"
	"io/fs"
)

//go:embed *.mp3 *.m4a *.aac *.opus *.flac *.wav
var files embed.FS

// Files is the bundled audio, flat and in the order of the programme when
// listed. It is read-only and safe for concurrent use.
func Files() fs.FS { return files }

package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musenai/musen/gateway/admin/client"
	"github.com/musenai/musen/gateway/admin/wire"
)

// maxHint is the longest name of a file that a node is told, in bytes.
const maxHint = 255

// audioEndings are the files that add takes out of a folder; a file that is
// named itself may be called anything.
func audioEndings() []string {
	return []string{".mp3", ".aac", ".m4a", ".mp4", ".ogg", ".oga", ".opus", ".flac", ".wav", ".ts", ".webm", ".mka"}
}

func (a *app) addCommand() *cobra.Command {
	var station string
	var meta client.Upload
	var publish, expires moment
	var wait waitFlags
	c := &cobra.Command{
		Use: "add --station STATION FILE|DIR|-...", Short: "Seal audio and add it to a station",
		Long: `add seals each file, adds it to IPFS and pins it. When it prints a CID, that segment
is stored: key, blocks and record are on the disk of this node. A folder stands for the
audio files in it and below; - is standard input. Audio that the station has already is
not added twice, unless --again is given. With --wait it waits for copies on peers, and
exits with 9 if they were not made in time: the segments are stored all the same, and
the copies go on being made.`,
		RunE: func(c *cobra.Command, args []string) error {
			meta.PublishAt, meta.ExpiresAt = publish.Time, expires.Time
			files, err := audioFiles(args)
			if err != nil {
				return err
			}
			if station == "" {
				return usageError("add needs --station; `musen station list` lists them")
			}
			if len(files) > 1 && meta.Title != "" {
				return usageError("--title fits one file, and %d are given", len(files))
			}
			if err := wait.check(c); err != nil {
				return err
			}
			return a.addFiles(c.Context(), station, files, meta, wait)
		},
	}
	c.Flags().StringVar(&station, "station", "", "the station's name or id")
	c.Flags().StringVar(&meta.Title, "title", "", "instead of the title in the audio")
	c.Flags().StringVar(&meta.Artist, "artist", "", "instead of the artist in the audio")
	c.Flags().BoolVar(&meta.AIGenerated, "ai-generated", false, "say that the audio was made by a machine")
	c.Flags().BoolVar(&meta.Again, "again", false, "add it even if the station has the same audio")
	c.Flags().Var(&publish, "publish-at", "nobody may listen before this time")
	c.Flags().Var(&expires, "expires-at", "nobody may listen from this time on")
	wait.add(c)
	return c
}

// audioFiles spells out what the arguments name, in their order.
func audioFiles(args []string) ([]string, error) {
	if len(args) == 0 {
		return nil, usageError("add needs a file, a folder, or - for standard input")
	}
	var files []string
	for _, arg := range args {
		info, err := statAudio(arg)
		if err != nil {
			return nil, err
		}
		if info == nil || !info.IsDir() {
			files = append(files, arg)
			continue
		}
		found, err := audioBelow(arg)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, usageError("folder %q has no audio files in it", arg)
		}
		files = append(files, found...)
	}
	return files, nil
}

// statAudio refuses what is neither a regular file nor a folder, such as a
// pipe that would never end. It returns nil for standard input.
func statAudio(path string) (fs.FileInfo, error) {
	if path == "-" {
		return nil, nil
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, &failure{exit: exitUsage, code: "no_file", cause: err, next: "check the path"}
	case !info.IsDir() && !info.Mode().IsRegular():
		return nil, usageError("%q is not a regular file; to read from a pipe, give - and redirect it", path)
	}
	return info, nil
}

func audioBelow(dir string) (files []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && isAudioName(path) {
			files = append(files, path)
		}
		return err
	})
	return files, err
}

// addFiles adds one file after the other, then waits for the copies of all. A
// file that fails does not keep the others from being added.
func (a *app) addFiles(ctx context.Context, station string, files []string, meta client.Upload, wait waitFlags) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	if len(files) == 1 { // the answer to the upload can wait
		meta.Wait, meta.WaitTimeout = wait.level, wait.timeout
	}
	var failed []error
	var all []wire.Added
	for _, file := range files {
		added, err := a.addFile(ctx, api, station, file, meta)
		if err == nil {
			all = append(all, added)
			err = a.printAdded(file, added)
		}
		if err == nil {
			continue
		}
		err = fmt.Errorf("add %s: %w", printable(file), err)
		if ctx.Err() != nil || errors.Is(err, client.ErrNotRunning) || len(files) == 1 {
			return err
		}
		failed = append(failed, err)
		report(a.stderr, a.json, err)
	}
	notCopied := a.awaitCopies(ctx, api, all, wait)
	if len(failed) > 0 {
		return &failure{exit: explain(failed[0]).exit, code: "partly_added", what: fmt.Sprintf("%d of %d files were not added", len(failed), len(files)), next: "mend what is said above and run the command again: what was added is not added twice"}
	}
	return notCopied
}

// awaitCopies waits until all that was added has the copies that are waited
// for. It reports each that has not, and the first is returned.
func (a *app) awaitCopies(ctx context.Context, api *client.Client, all []wire.Added, wait waitFlags) error {
	if wait.level == "" {
		return nil
	}
	var failed []error
	end := time.Now().Add(wait.timeout)
	for _, added := range all {
		level, reason := added.Level, added.Reason
		if level == "" {
			id, err := parseCID(added.CID)
			if err != nil {
				return err
			}
			h, err := api.Copies(ctx, id, wait.level, max(time.Until(end), time.Second))
			if err != nil {
				return fmt.Errorf("wait for copies of %s: %w", added.CID, err)
			}
			level, reason = h.Level, h.Reason
		}
		if err := wait.reached(added.CID, level, reason); err != nil {
			failed = append(failed, err)
		}
	}
	if len(failed) < 2 {
		return errors.Join(failed...)
	}
	for _, err := range failed {
		report(a.stderr, a.json, err)
	}
	return &failure{exit: exitNotReplicated, code: "not_replicated", what: fmt.Sprintf("%d of %d segments are not %s", len(failed), len(all), wait.level), next: "they are safe on this node, which goes on making copies; `musen status` shows how far it is"}
}

func (a *app) addFile(ctx context.Context, api *client.Client, station, file string, meta client.Upload) (added wire.Added, err error) {
	shown := newBars(a.stderr)
	defer shown.close()
	audio, total, err := a.openAudio(ctx, file)
	if err != nil {
		return added, err
	}
	defer audio.Close()
	b := shown.add(filepath.Base(file), total)
	defer func() { b.end(err) }()
	meta.Audio, meta.Size = &countingReader{r: audio, total: total, bar: b}, total
	if file != "-" {
		meta.Filename = oneLine(filepath.Base(file), maxHint)
	}
	added, err = api.Add(ctx, station, meta)
	return added, noStation(err, station)
}

// openAudio opens a file, or standard input, and tells its length if it has
// one.
func (a *app) openAudio(ctx context.Context, file string) (io.ReadCloser, int64, error) {
	if file == "-" {
		return untilDone(ctx, a.stdin), 0, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, 0, &failure{exit: exitUsage, code: "no_file", cause: err}
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

func (a *app) printAdded(file string, s wire.Added) error {
	if a.json {
		return a.printJSON(s)
	}
	note := ""
	if s.Existing {
		note = "  (the station had it already)"
	}
	_, err := fmt.Fprintf(a.stdout, "%s  %s%s\n", printable(s.CID), printable(firstOf(s.Title, filepath.Base(file))), note)
	return err
}

func isAudioName(path string) bool {
	return slices.Contains(audioEndings(), strings.ToLower(filepath.Ext(path)))
}

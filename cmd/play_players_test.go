package cmd_test

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// What players hear through a link is sample for sample what they hear of the
// source, from the beginning and from the middle.
func TestPlayers(t *testing.T) {
	t.Parallel()
	need(t, "ffmpeg", "ffprobe", "mpv")
	r := startRadio(t)
	for _, a := range r.addBundled() {
		t.Run(filepath.Base(a.source), func(t *testing.T) {
			r, link := &radio{t: t, home: r.home}, ""
			link = r.link(a, "player")
			if heard, source := pcm(t, link), pcm(t, a.source); heard != source {
				t.Errorf("ffmpeg hears %s of the link and %s of the source", heard, source)
			}
			middle := []string{"-ss", fmt.Sprintf("%.1f", a.seconds()/2), "-t", "1"}
			if heard, source := pcm(t, link, middle...), pcm(t, a.source, middle...); heard != source {
				t.Errorf("from the middle ffmpeg hears %s of the link and %s of the source", heard, source)
			}
			probe(t, a, link)
			hearWithMPV(t, link)
		})
	}
}

// pcm is the MD5 of all samples that ffmpeg decodes.
func pcm(t *testing.T, from string, options ...string) string {
	t.Helper()
	args := append([]string{"-nostdin", "-v", "error", "-xerror"}, options...)
	out := run(t, "", "ffmpeg", append(args, "-i", from, "-map", "0:a", "-f", "md5", "-")...)
	if !strings.HasPrefix(out, "MD5=") || out == "MD5=d41d8cd98f00b204e9800998ecf8427e" {
		t.Fatalf("ffmpeg decoded nothing: %q", out)
	}
	return out
}

// probe compares what ffprobe finds with what the catalogue says.
func probe(t *testing.T, a aired, link string) {
	t.Helper()
	var found struct {
		Format struct {
			Name     string `json:"format_name"`
			Duration string
			Tags     map[string]string
		}
	}
	out := run(t, "", "ffprobe", "-v", "error", "-show_format", "-of", "json", link)
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		t.Fatalf("ffprobe: %v: %s", err, out)
	}
	seconds, err := strconv.ParseFloat(found.Format.Duration, 64)
	if off := math.Abs(seconds - a.seconds()); err != nil || off > 0.1 && found.Format.Name != "aac" { // ADTS: ffprobe guesses
		t.Errorf("%s: ffprobe finds %q seconds, the catalogue says %.3f", found.Format.Name, found.Format.Duration, a.seconds())
	}
	for name, value := range found.Format.Tags {
		if strings.EqualFold(name, "title") && value != a.Title {
			t.Errorf("ffprobe finds the title %q, the catalogue says %q", value, a.Title)
		}
	}
}

// hearWithMPV plays the end of a link, as it was printed, to its last sample.
func hearWithMPV(t *testing.T, link string) {
	t.Helper()
	out := run(t, "", "mpv", "--no-config", "--ao=null", "--ao-null-untimed=yes", "--no-video", "--start=50%", link)
	if !strings.Contains(out, "End of file") {
		t.Errorf("mpv: %s", strings.ReplaceAll(out, link, "LINK"))
	}
}

// No player gets anything out of a link that was revoked.
func TestPlayersAreRefused(t *testing.T) {
	t.Parallel()
	need(t, "ffmpeg", "mpv")
	r := startRadio(t)
	a := r.add(bundled(t)[0])
	link := r.link(a, "ann")
	pcm(t, link)
	r.musen("token", "revoke", "--subject", "ann")
	if out, stderr, err := try("", "ffmpeg", "-nostdin", "-v", "error", "-i", link, "-f", "md5", "-"); err == nil || out != "" || !strings.Contains(stderr, "401") {
		t.Errorf("ffmpeg: %v, %q, %s", err, out, stderr)
	}
	if out, _, err := try("", "mpv", "--no-config", "--ao=null", "--ytdl=no", link); err == nil {
		t.Errorf("mpv plays it: %s", out)
	}
}

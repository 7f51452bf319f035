package cmd_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

// patience bounds the wait for what must come; nothing here is that slow.
const patience = time.Minute

// A radio is a node with one station, jazz, that listeners use as they would.
type radio struct {
	t    *testing.T
	home string
	node *process
}

// An aired segment is what musen add says of one, and the audio it was made of.
type aired struct {
	CID        string
	Title      string
	MediaType  string `json:"media_type"`
	DurationMS int64  `json:"duration_ms"`
	Size       int64
	SealedSize int64 `json:"sealed_size"`
	source     string
}

// seconds is how long the catalogue says that the segment is.
func (a aired) seconds() float64 { return float64(a.DurationMS) / 1000 }

// startRadio starts a node, which must stop with exit code 0 when the test ends.
// Its environment has env besides.
func startRadio(t *testing.T, env ...string) *radio {
	t.Helper()
	r := &radio{t: t, home: filepath.Join(t.TempDir(), "home")}
	r.musen("init")
	if env != nil {
		env = append(os.Environ(), env...)
	}
	p, err := serve(r.home, env, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.node = p
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Errorf("stop: %v\n%s", err, &p.log)
		}
	})
	r.musen("station", "create", "jazz")
	return r
}

// musen runs a command on the node's home and returns its output.
func (r *radio) musen(args ...string) string {
	r.t.Helper()
	return run(r.t, "", "musen", append([]string{"--home", r.home}, args...)...)
}

// add adds a file of audio to the station.
func (r *radio) add(file string) (a aired) {
	r.t.Helper()
	out := r.musen("--json", "add", "--station", "jazz", file)
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		r.t.Fatalf("musen add: %v: %s", err, out)
	}
	a.source = file
	return a
}

// addBundled adds the audio that comes with the program.
func (r *radio) addBundled() (all []aired) {
	r.t.Helper()
	for _, file := range bundled(r.t) {
		all = append(all, r.add(file))
	}
	return all
}

// link is a URL that plays a segment.
func (r *radio) link(a aired, subject string) string {
	r.t.Helper()
	return r.musen("link", a.CID, "--ttl", "1h", "--subject", subject)
}

func (r *radio) token(subject string) string {
	r.t.Helper()
	return r.musen("token", "issue", "--station", "jazz", "--subject", subject)
}

// run runs a program in a folder and returns its standard output, trimmed; it
// must exit with 0.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	out, stderr, err := try(dir, name, args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", name, err, out, stderr)
	}
	return strings.TrimSpace(out)
}

// try runs a program that may fail.
func try(dir, name string, args ...string) (stdout, stderr string, err error) {
	var out, errs bytes.Buffer
	c := exec.Command(name, args...)
	c.Dir, c.Stdout, c.Stderr = dir, &out, &errs
	err = c.Run()
	return out.String(), errs.String(), err
}

// need fails the test when a program that it listens with is not installed.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Fatalf("this test needs %s, which scripts/test.sh installs: %v", p, err)
		}
	}
}

// bundled are the paths of the audio that comes with the program, in the order
// of the programme.
func bundled(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../testdata/audio/0*")
	if err == nil {
		for i := range files {
			files[i], err = filepath.Abs(files[i])
		}
	}
	if err != nil || len(files) != 8 {
		t.Fatalf("bundled audio: %d files, %v", len(files), err)
	}
	return files
}

// longSong makes a WAV of two minutes, 20 MB of noise: more than the system
// buffers between a gateway and a listener.
func longSong(t *testing.T) string {
	t.Helper()
	const samples = 20 << 20
	b := make([]byte, 0, 44+samples)
	b = append(b, "RIFF"...)
	b = binary.LittleEndian.AppendUint32(b, 36+samples)
	b = append(b, "WAVEfmt \x10\x00\x00\x00\x01\x00\x02\x00"...)
	b = binary.LittleEndian.AppendUint32(b, 44100)
	b = binary.LittleEndian.AppendUint32(b, 44100*4)
	b = append(b, "\x04\x00\x10\x00data"...)
	b = binary.LittleEndian.AppendUint32(b, samples)
	noise := b[44 : 44+samples]
	rand.NewChaCha8([32]byte{1}).Read(noise)
	file := filepath.Join(t.TempDir(), "long.wav")
	if err := os.WriteFile(file, b[:44+samples], 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// digest is the SHA-256 of a file.
func digest(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// same fails the test unless a listener saved exactly the source.
func same(t *testing.T, saved, source string) {
	t.Helper()
	if digest(t, saved) != digest(t, source) {
		t.Errorf("%s is not the audio of %s", saved, filepath.Base(source))
	}
}

// entries are the names in a folder.
func entries(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// awaitIn does something, and returns when what happens in a folder has made
// ready true.
func awaitIn(t *testing.T, dir string, do func(), ready func() bool) {
	t.Helper()
	w, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Add(dir); err != nil {
		t.Fatal(err)
	}
	do()
	for timeout := time.After(patience); !ready(); {
		select {
		case <-w.Events:
		case err := <-w.Errors:
			t.Fatal(err)
		case <-timeout:
			t.Fatalf("what was awaited did not happen in %s", dir)
		}
	}
}

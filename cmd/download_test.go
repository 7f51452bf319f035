package cmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	oneCID   = "bafkreiabaoygjaow4wcsfc3jjvfjadcw2swgn6ag5jtovmm253ldz2cpwa"
	otherCID = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
)

// fetch runs musen get in dir.
func fetch(t *testing.T, dir string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	for i, a := range args {
		if a == "-o" && args[i+1] != "-" {
			args[i+1] = filepath.Join(dir, args[i+1])
		}
	}
	code = Main(append([]string{"get"}, args...), strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// gatewayOf starts a gateway that answers so.
func gatewayOf(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	return s.URL
}

// whole answers with all of the audio, or the range asked for.
func whole(w http.ResponseWriter, r *http.Request, etag, audio string) {
	w.Header().Set("ETag", etag)
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(audio))
}

func wantFile(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s holds %q, %v, want %q", filepath.Base(path), got, err, want)
	}
}

func wantFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	found, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range found {
		names = append(names, f.Name())
	}
	if fmt.Sprint(names) != fmt.Sprint(want) {
		t.Errorf("files: %q, want %q", names, want)
	}
}

// A gateway that redirects gets neither the credential carried on nor its
// target's body saved (H13).
func TestGetFollowsNoRedirect(t *testing.T) {
	var reached atomic.Int64
	trap := gatewayOf(t, func(w http.ResponseWriter, r *http.Request) {
		reached.Add(1)
		whole(w, r, `"x"`, "not audio")
	})
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, status := range []int{301, 302, 303, 307, 308} {
		gateway := gatewayOf(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, trap+r.URL.Path, status) })
		for _, args := range [][]string{{gateway + "/listen/" + oneCID + "?CAT=secret"}, {oneCID, "--gateway", gateway, "--token-file", token}} {
			code, _, stderr := fetch(t, dir, append(args, "-o", "out")...)
			if code != exitRefused || !strings.Contains(stderr, "redirect") || strings.Contains(stderr, "secret") {
				t.Errorf("%d: exit code %d: %s", status, code, stderr)
			}
		}
	}
	if n := reached.Load(); n > 0 {
		t.Errorf("%d redirects were followed", n)
	}
	if _, err := os.Stat(filepath.Join(dir, "out")); err == nil {
		t.Error("the answer of a redirect was saved")
	}
}

// A link does not choose where the audio goes.
func TestGetNamesTheFileByItsCID(t *testing.T) {
	gateway := gatewayOf(t, func(w http.ResponseWriter, r *http.Request) { whole(w, r, `"x"`, "audio") })
	dir := t.TempDir()
	t.Chdir(dir)
	for _, path := range []string{"/listen/.bashrc", "/listen/../x", "/listen/%2e%2e%2fx", "/.ssh/key", "/listen/sub/" + oneCID, "/listen/", "/"} {
		if code, _, stderr := fetch(t, dir, gateway+path); code != exitUsage || !strings.Contains(stderr, "-o") {
			t.Errorf("%s: exit code %d: %s", path, code, stderr)
		}
	}
	wantFiles(t, dir)
	if code, _, stderr := fetch(t, dir, gateway+"/listen/"+oneCID+"?CAT=x"); code != 0 {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	wantFiles(t, dir, oneCID)
	if code, _, stderr := fetch(t, dir, gateway+"/any", "-o", "named"); code != 0 {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	wantFiles(t, dir, oneCID, "named")
}

// A file that is there stays, unless --force is given.
func TestGetKeepsWhatIsThere(t *testing.T) {
	gateway := gatewayOf(t, func(w http.ResponseWriter, r *http.Request) { whole(w, r, `"x"`, "audio") })
	dir, link := t.TempDir(), gateway+"/listen/"+oneCID
	mine := filepath.Join(dir, "mine")
	if err := os.WriteFile(mine, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := fetch(t, dir, link, "-o", "mine"); code != exitConflict || !strings.Contains(stderr, "--force") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	wantFile(t, mine, "precious")
	if code, _, stderr := fetch(t, dir, link, "-o", "mine", "--force"); code != 0 {
		t.Errorf("with --force: exit code %d: %s", code, stderr)
	}
	wantFile(t, mine, "audio")
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := fetch(t, dir, link, "-o", "folder", "--force"); code != exitConflict {
		t.Errorf("a folder: exit code %d: %s", code, stderr)
	}
}

// half sends half of the audio and cuts the connection.
func half(w http.ResponseWriter, etag, audio string) {
	w.Header().Set("ETag", etag)
	w.Header().Set("Content-Length", strconv.Itoa(len(audio)))
	w.Write([]byte(audio[:len(audio)/2]))
	panic(http.ErrAbortHandler)
}

// Parts of different audio never become one file: not those of two segments,
// and not those of two answers with the same CID.
func TestGetJoinsOnlyPartsOfTheSame(t *testing.T) {
	t.Parallel()
	var cut atomic.Bool
	var etag atomic.Value
	etag.Store(`"1"`)
	gateway := gatewayOf(t, func(w http.ResponseWriter, r *http.Request) {
		audio := strings.Repeat(r.URL.Path+etag.Load().(string), 1000)
		if cut.Load() {
			half(w, etag.Load().(string), audio)
		}
		whole(w, r, etag.Load().(string), audio)
	})
	dir := t.TempDir()
	cut.Store(true)
	if code, _, stderr := fetch(t, dir, gateway+"/listen/"+oneCID, "-o", "out"); code != exitFailed {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	part := "out." + oneCID + ".part"
	wantFiles(t, dir, part, part+".etag")
	cut.Store(false)
	if code, _, stderr := fetch(t, dir, gateway+"/listen/"+otherCID, "-o", "out"); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	wantFile(t, filepath.Join(dir, "out"), strings.Repeat("/listen/"+otherCID+`"1"`, 1000))
	etag.Store(`"2"`)
	if code, _, stderr := fetch(t, dir, gateway+"/listen/"+oneCID, "-o", "out", "--force"); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	wantFile(t, filepath.Join(dir, "out"), strings.Repeat("/listen/"+oneCID+`"2"`, 1000))
	wantFiles(t, dir, "out")
	// A part that nobody knows what it is of is not gone on with.
	if err := os.WriteFile(filepath.Join(dir, "new."+oneCID+".part"), []byte("unknown"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := fetch(t, dir, gateway+"/listen/"+oneCID, "-o", "new"); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	wantFile(t, filepath.Join(dir, "new"), strings.Repeat("/listen/"+oneCID+`"2"`, 1000))
}

// A part that is a link or a pipe is neither written through nor waited for.
func TestGetPartIsARegularFile(t *testing.T) {
	gateway := gatewayOf(t, func(w http.ResponseWriter, r *http.Request) { whole(w, r, `"x"`, "audio") })
	dir := t.TempDir()
	victim, part := filepath.Join(dir, "victim"), filepath.Join(dir, "out."+oneCID+".part")
	if err := errors.Join(os.WriteFile(victim, []byte("precious"), 0o600), os.Symlink(victim, part)); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := fetch(t, dir, gateway+"/listen/"+oneCID, "-o", "out"); code == 0 {
		t.Errorf("through a link: %s", stderr)
	}
	wantFile(t, victim, "precious")
	if err := errors.Join(os.Remove(part), syscall.Mkfifo(part, 0o600)); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := fetch(t, dir, gateway+"/listen/"+oneCID, "-o", "out"); code == 0 || !strings.Contains(stderr, "regular") {
		t.Errorf("a pipe: exit code %d: %s", code, stderr)
	}
}

// Not a byte is written beyond the length that the gateway said first.
func TestGetBoundsWhatItWrites(t *testing.T) {
	const audio = "0123456789"
	for what, answer := range map[string]func(w http.ResponseWriter){
		"longer than it said": func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", "bytes 5-9/10")
			w.WriteHeader(http.StatusPartialContent)
			w.Write([]byte(audio[5:] + strings.Repeat("endless", 1<<16)))
		},
		"another end": func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", "bytes 5-99/10")
			w.WriteHeader(http.StatusPartialContent)
			w.Write([]byte(strings.Repeat("endless", 1<<16)))
		},
		"another start": func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", "bytes 6-9/10")
			w.WriteHeader(http.StatusPartialContent)
			w.Write([]byte(audio[6:]))
		},
	} {
		t.Run(what, func(t *testing.T) {
			gateway := gatewayOf(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Range") == "" {
					half(w, `"x"`, audio)
				}
				w.Header().Set("ETag", `"x"`)
				answer(w)
			})
			dir := t.TempDir()
			if code, _, stderr := fetch(t, dir, gateway+"/listen/"+oneCID, "-o", "out"); code != exitFailed {
				t.Errorf("exit code %d: %s", code, stderr)
			}
			part := filepath.Join(dir, "out."+oneCID+".part")
			st, err := os.Stat(part)
			if err == nil && (st.Size() == 0 || st.Size() > int64(len(audio))) || err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the part: %v, %v", st, err) // one with nothing in it goes
			}
		})
	}
	gateway := gatewayOf(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Range", "bytes 0-9/10")
		w.WriteHeader(http.StatusPartialContent)
		w.Write([]byte(audio))
	})
	if code, stdout, stderr := fetch(t, "", gateway+"/listen/"+oneCID, "-o", "-"); code != exitFailed || stdout != "" {
		t.Errorf("a part that was not asked for: exit code %d: %q, %s", code, stdout, stderr)
	}
}

// A gateway that says nothing more is asked again, and goes on where it was.
func TestGetDoesNotWaitForEver(t *testing.T) {
	const audio = "0123456789"
	var requests atomic.Int64
	gateway := gatewayOf(t, func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 1 {
			w.Header().Set("ETag", `"x"`)
			w.Header().Set("Content-Length", "10")
			w.Write([]byte(audio[:5]))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return
		}
		if r.Header.Get("Range") != "bytes=5-" {
			t.Errorf("Range %q", r.Header.Get("Range"))
		}
		whole(w, r, `"x"`, audio)
	})
	var out bytes.Buffer
	d := &download{
		client: listenClient(), url: gateway, idle: 200 * time.Millisecond,
		wait: func(context.Context, int) error { return nil },
	}
	if err := d.to(t.Context(), &stream{Writer: &out}); err != nil || out.String() != audio {
		t.Errorf("%q, %v", &out, err)
	}
	// One that never says anything is given up.
	d.url = gatewayOf(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	d.have, d.etag, d.idle = 0, "", 20*time.Millisecond
	if err := d.to(t.Context(), &stream{Writer: &out}); !errors.Is(err, errIdle) {
		t.Errorf("a silent gateway: %v", err)
	}
}

// P37: a token comes from a regular file, or from a pipe that nobody else may
// read; one that nobody writes to is not waited for.
func TestTokenFromAPipe(t *testing.T) {
	dir := t.TempDir()
	silent, open := filepath.Join(dir, "silent"), filepath.Join(dir, "open")
	for _, name := range []string{silent, open} {
		if err := syscall.Mkfifo(name, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(open, 0o640); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{silent: "does not hold one bearer token", open: "nobody else may read", dir: "regular"} {
		if code, _, stderr := fetch(t, dir, oneCID, "--token-file", file, "-o", "out"); code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("exit code %d: %s", code, stderr)
		}
	}
	r, w, err := os.Pipe() // what <(...) gives
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	asked := make(chan string, 1)
	gateway := gatewayOf(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("Authorization")
		w.WriteHeader(http.StatusNotFound)
	})
	go func() {
		_, _ = io.WriteString(w, "a.b.c\n")
		w.Close()
	}()
	fetch(t, dir, oneCID, "--gateway", gateway, "--token-file", fmt.Sprintf("/dev/fd/%d", r.Fd()), "-o", "out")
	if got := <-asked; got != "Bearer a.b.c" {
		t.Errorf("asked with %q", got)
	}
}

// What a gateway says cannot speak to the terminal.
func TestGetPrintsOnlyText(t *testing.T) {
	const evil = "\\u001b]0;owned\\u0007\\u202e\\nmusen: all is well"
	gateway := gatewayOf(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `{"title":"%[1]s","detail":"%[1]s","code":"%[1]s","help":"%[1]s"}`, evil)
	})
	code, _, stderr := fetch(t, t.TempDir(), gateway+"/listen/"+oneCID, "-o", "out\x1b[2J")
	if code != exitRefused || strings.ContainsAny(stderr, "\x1b\x07\u202e") || strings.Contains(stderr, "\nmusen: all") || !strings.Contains(stderr, "owned") {
		t.Errorf("exit code %d: %q", code, stderr)
	}
}

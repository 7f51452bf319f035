// Package testpg runs a real PostgreSQL for tests: a fresh cluster in a
// temporary folder, on a unix socket only, that ends with the test. A machine
// without the server fails the test; nothing is skipped.
//
// It does not know what is kept in the databases.
package testpg

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// binaries is where Debian's package postgresql puts the programs of each
// version.
const binaries = "/usr/lib/postgresql/*/bin"

// A Server is one PostgreSQL.
type Server struct {
	t       testing.TB
	bin     string
	dir     string // holds the cluster and the socket
	as      *syscall.SysProcAttr
	process *exec.Cmd
	said    chan error // that it ended
}

// Start makes a cluster and starts its server. Both end with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, bin: newest(t)}
	var err error
	if s.dir, err = os.MkdirTemp("", "musen-pg-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Stop()
		os.RemoveAll(s.dir)
	})
	if os.Geteuid() == 0 { // PostgreSQL refuses to run as root
		s.drop()
	}
	s.run("initdb", "-D", s.data(), "-U", "musen", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	s.Restart()
	return s
}

// newest is the folder of the newest server that is installed.
func newest(t testing.TB) string {
	t.Helper()
	dirs, err := filepath.Glob(binaries)
	if path, lookErr := exec.LookPath("initdb"); lookErr == nil && len(dirs) == 0 {
		return filepath.Dir(path) // another system
	}
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no PostgreSQL in %s: install the Debian package postgresql", binaries)
	}
	version := func(dir string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		return n
	}
	return slices.MaxFunc(dirs, func(a, b string) int { return version(a) - version(b) })
}

// drop makes the programs run as nobody, to whom the folder is given.
func (s *Server) drop() {
	s.t.Helper()
	nobody, err := user.Lookup("nobody")
	if err != nil {
		s.t.Fatal(err)
	}
	uid, _ := strconv.Atoi(nobody.Uid)
	gid, _ := strconv.Atoi(nobody.Gid)
	if err := os.Chown(s.dir, uid, gid); err != nil {
		s.t.Fatal(err)
	}
	s.as = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// Socket is the folder of the unix socket.
func (s *Server) Socket() string { return s.dir }

// SocketFile is the unix socket itself.
func (s *Server) SocketFile() string { return filepath.Join(s.dir, ".s.PGSQL.5432") }

func (s *Server) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(s.bin, name), args...)
	c.Dir, c.SysProcAttr = s.dir, s.as
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=" + s.dir}
	return c
}

// run runs a program of the server to its end, and returns what it printed.
func (s *Server) run(name string, args ...string) string {
	s.t.Helper()
	out, err := s.command(name, args...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// Restart starts the server, and returns when it can be connected to.
func (s *Server) Restart() {
	s.t.Helper()
	s.process = s.command("postgres", "-D", s.data(), "-k", s.dir, "-c", "listen_addresses=",
		"-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=200", "-c", "shared_buffers=16MB")
	out, err := s.process.StderrPipe()
	if err == nil {
		err = s.process.Start()
	}
	if err != nil {
		s.t.Fatalf("start PostgreSQL: %v", err)
	}
	ready := make(chan error, 1)
	s.said = make(chan error, 1)
	go func() {
		var lines []string
		for in := bufio.NewScanner(out); in.Scan(); {
			if lines = append(lines, in.Text()); strings.HasSuffix(in.Text(), "database system is ready to accept connections") {
				ready <- nil
				lines = nil
			}
		}
		err := s.process.Wait()
		ready <- fmt.Errorf("it ended: %w\n%s", errors.Join(err), strings.Join(lines, "\n"))
		s.said <- err
	}()
	if err := <-ready; err != nil {
		s.process = nil
		s.t.Fatalf("start PostgreSQL: %v", err)
	}
}

// Kill ends the server as a crash does: nothing is written any more, and the
// next start recovers from the log.
func (s *Server) Kill() { s.end(syscall.SIGQUIT) }

// Stop ends the server and its connections.
func (s *Server) Stop() { s.end(syscall.SIGINT) }

func (s *Server) end(how syscall.Signal) {
	if s.process == nil {
		return
	}
	_ = s.process.Process.Signal(how) // it may have ended by itself
	<-s.said
	s.process = nil
}

// Database makes an empty database, and returns what to connect with.
func (s *Server) Database(name string) (connection string) {
	s.t.Helper()
	s.run("createdb", "-h", s.dir, "-U", "musen", name)
	return fmt.Sprintf("host=%s user=musen dbname=%s", s.dir, name)
}

// SQL runs statements as a superuser, and returns what they printed.
func (s *Server) SQL(database, statements string) string {
	s.t.Helper()
	return s.run("psql", "-h", s.dir, "-U", "musen", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statements, database)
}

// Package cmd is the command line of musen and the wiring of its packages: the
// only place that knows them all. Commands other than init, serve, get and
// quickstart are clients of the running node's admin API.
package cmd

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// app is what the commands share in one run of the program.
type app struct {
	home   string
	json   bool
	ticket string
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

// Main runs the program with args and returns its exit code. SIGINT and SIGTERM
// cancel what it does; a second one ends it at once.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr}
	root := newRoot(a)
	root.SetArgs(args)
	typed, err := root.ExecuteContextC(ctx)
	return report(stderr, a.json, withHelp(typed, err))
}

// newRoot makes the command tree.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "musen",
		Short: "Distribute AI radio audio over IPFS without trusting the machines that carry it",
		Long: `musen seals audio, adds it to IPFS by CID, and streams it, decrypted, through a
gateway that checks every request. One program is the whole node.

Try it:       musen quickstart
Run a node:   musen init && musen serve`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          none,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError("%s", flagError(err)) })
	root.PersistentFlags().StringVar(&a.home, "home", "", "the node's home folder (env MUSEN_HOME; default "+shortDefaultHome+")")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON, one object a line")
	root.PersistentFlags().StringVar(&a.ticket, "ticket", "", "a ticket or purpose, recorded in the node's audit log with what is changed (env MUSEN_TICKET)")
	root.AddCommand(a.commands()...)
	checkBuiltIn(root)
	return root
}

// flagError says what is wrong with a flag, a value that is no number too.
func flagError(err error) string {
	var n *strconv.NumError
	if !errors.As(err, &n) {
		return err.Error()
	}
	want := "it is no whole number, or out of range"
	if n.Func == "ParseBool" {
		want = "it is neither true nor false"
	}
	return strings.Replace(err.Error(), n.Error(), want, 1)
}

// shortDefaultHome is the default home as help texts show it.
const shortDefaultHome = "~/.local/share/musen"

// homeDir is where the node lives: the flag, else MUSEN_HOME, else the user's
// data folder.
func (a *app) homeDir() (string, error) {
	for _, dir := range []string{a.home, os.Getenv("MUSEN_HOME")} {
		if dir != "" {
			return filepath.Abs(dir)
		}
	}
	if data := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(data) {
		return filepath.Join(data, "musen"), nil
	}
	user, err := os.UserHomeDir()
	if err != nil {
		return "", &failure{exit: exitUsage, code: "no_home", what: "find a home for the node: " + err.Error(), next: "give --home DIR", cause: errors.Unwrap(err)}
	}
	return filepath.Join(user, ".local", "share", "musen"), nil
}

package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/spf13/cobra"

	"github.com/musenai/musen/gateway/admin/client"
)

// Exit codes of the program. They are part of its interface: docs/operating.md
// lists them, and scripts rely on them.
const (
	exitOK            = 0
	exitFailed        = 1   // anything that has no code of its own
	exitUsage         = 2   // the command line or the configuration is wrong
	exitNoNode        = 3   // no node is running in this home
	exitNotFound      = 4   // no such station, segment, token or peer
	exitRefused       = 5   // credentials or policy refuse it
	exitConflict      = 6   // it exists already, or is in use
	exitDamaged       = 7   // stored bytes or keys are not what they must be
	exitNoSpace       = 8   // the disk is full
	exitNotReplicated = 9   // stored, but without the copies that were waited for
	exitInterrupted   = 130 // stopped by a signal
)

// A failure is an error as the user sees it: what failed, a stable code, and
// what to do next.
type failure struct {
	exit   int
	code   string
	status int // of the HTTP answer that it came in, if any
	what   string
	next   string
	cause  error
}

func (f *failure) Error() string {
	if f.what == "" && f.cause != nil {
		return f.cause.Error()
	}
	return f.what
}

func (f *failure) Unwrap() error { return f.cause }

// problemBody is the part of an RFC 9457 problem that a command shows.
type problemBody struct {
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
	Help   string `json:"help"`
}

// exitByStatus is the exit code for a refusal of the node or a gateway.
func exitByStatus(status int) int {
	switch status {
	case 401, 403:
		return exitRefused
	case 404, 410, 451:
		return exitNotFound
	case 409:
		return exitConflict
	case 400, 413, 415, 422:
		return exitUsage
	case 507:
		return exitNoSpace
	}
	return exitFailed
}

// exitByCode is the exit code for a refusal of the node.
func exitByCode(code string, status int) int {
	if code == "damaged" {
		return exitDamaged
	}
	return exitByStatus(status)
}

// usageError says that the command line cannot be carried out as it is.
func usageError(format string, args ...any) error {
	return &failure{exit: exitUsage, code: "usage", what: fmt.Sprintf(format, args...)}
}

// withHelp names the help of the command that was typed wrongly.
func withHelp(c *cobra.Command, err error) error {
	var f *failure
	if errors.As(err, &f) && f.code == "usage" && f.next == "" {
		f.next = "see `" + c.CommandPath() + " --help`"
		if !c.HasParent() {
			f.next = "see `musen help` for the commands"
		}
	}
	return err
}

// helpFor is what to do about a refusal of the node. Why something went wrong
// inside it stands in its log alone.
func helpFor(refused *client.Error) string {
	if (refused.Code == "internal" || refused.Code == "unavailable") && refused.RequestID != "" {
		return "the log of the node says why, at request " + printable(refused.RequestID)
	}
	return refused.Help
}

// explain makes a failure of any error.
func explain(err error) *failure {
	var f *failure
	var refused *client.Error
	switch {
	case errors.As(err, &f):
		shown := *f
		if shown.exit == 0 {
			shown.exit = exitByStatus(f.status)
		}
		if err != error(f) {
			shown.what = err.Error()
		}
		return &shown
	case errors.As(err, &refused):
		what := strings.TrimSuffix(printable(firstOf(refused.Detail, refused.Title)), ".")
		return &failure{exit: exitByCode(refused.Code, refused.Status), code: refused.Code, what: prefixOf(err, refused) + what, next: helpFor(refused), cause: err}
	case errors.Is(err, client.ErrNotRunning):
		return &failure{exit: exitNoNode, code: "no_node", cause: err, next: "start it with `musen serve`; a home is made with `musen init`"}
	case errors.Is(err, client.ErrWentAway):
		return &failure{exit: exitNoNode, code: "no_node", what: prefixOf(err, client.ErrWentAway) + client.ErrWentAway.Error(), cause: err, next: "its log says why; start it with `musen serve`, and see what was done before you type it again"}
	case errors.Is(err, context.Canceled):
		return &failure{exit: exitInterrupted, code: "interrupted", what: "interrupted"}
	case errors.Is(err, fs.ErrPermission):
		return &failure{exit: exitFailed, code: "no_permission", cause: err, next: "run it as a user who may; a home belongs to the user of its node"}
	}
	return &failure{exit: exitFailed, code: "failed", cause: err}
}

// prefixOf is what err says around its cause, in front of it.
func prefixOf(err, cause error) string {
	before, _, found := strings.Cut(err.Error(), cause.Error())
	if !found {
		return ""
	}
	return before
}

// report writes an error to w and returns the exit code.
func report(w io.Writer, asJSON bool, err error) int {
	if err == nil {
		return exitOK
	}
	f := explain(err)
	if asJSON {
		out := map[string]any{"error": map[string]string{"code": f.code, "message": f.Error(), "next": f.next}}
		_ = json.NewEncoder(w).Encode(out)
		return f.exit
	}
	fmt.Fprintf(w, "musen: %s [%s]\n", printableLines(f.Error()), printable(f.code))
	if f.next != "" {
		fmt.Fprintf(w, "  %s\n", printable(f.next))
	}
	return f.exit
}

// absent says what was not found, where the node says only that something was
// not.
func absent(err error, what, next string) error {
	var refused *client.Error
	if !errors.As(err, &refused) || refused.Code != "not_found" {
		return err
	}
	return &failure{exit: exitNotFound, code: refused.Code, status: refused.Status, what: what, next: next, cause: err}
}

// noStation is absent for what was asked of a station.
func noStation(err error, nameOrID ...string) error {
	if len(nameOrID) == 0 {
		return err
	}
	names := make([]string, len(nameOrID))
	for i, n := range nameOrID {
		names[i] = strconv.Quote(n)
	}
	what := "there is no station " + strings.Join(names, ", or none ")
	return absent(err, what, "`musen station list` lists them")
}

// noSegment is absent for what was asked of a segment.
func noSegment(err error, id cid.Cid) error {
	return absent(err, "there is no segment "+id.String(), "`musen ls` lists them")
}

func firstOf(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

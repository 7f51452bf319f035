package cmd

import (
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Who may not open the home of a node is told so, and not that its settings
// are wrong.
func TestNoPermissionSaysWhoMay(t *testing.T) {
	var out strings.Builder
	code := report(&out, false, fmt.Errorf("load configuration: %w", &fs.PathError{Op: "stat", Path: "/h/config.toml", Err: fs.ErrPermission}))
	if code != exitFailed || !strings.Contains(out.String(), "stat /h/config.toml") || !strings.Contains(out.String(), "[no_permission]\n  run it as a user who may") {
		t.Errorf("exit %d: %s", code, &out)
	}
}

// The help of a flag has one word for its value, and not a piece of the text.
func TestFlagsNameTheirValuesInOneWord(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if name, _ := pflag.UnquoteUsage(f); strings.Contains(name, " ") {
				t.Errorf("%s --%s %s", c.CommandPath(), f.Name, name)
			}
		})
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(&app{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard}))
}

package cmd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/ipfs/go-cid"
	"github.com/spf13/cobra"

	"github.com/musenai/musen/config"
	"github.com/musenai/musen/gateway/admin/client"
	"github.com/musenai/musen/internal/cidpath"
)

// commands are all commands of the program.
func (a *app) commands() []*cobra.Command {
	return []*cobra.Command{
		a.quickstartCommand(), a.initCommand(), a.serveCommand(),
		a.stationCommand(), a.addCommand(), a.lsCommand(), a.showCommand(), a.removeCommand(), a.takedownCommand(),
		a.tokenCommand(), a.subjectCommand(), a.linkCommand(), a.shareCommand(), a.getCommand(),
		a.verifyCommand(), a.gcCommand(), a.statusCommand(), a.peerCommand(), a.pinCommand(),
		a.joinCommand(), a.replicaCommand(), a.denylistCommand(),
		a.policyCommand(), a.roleCommand(), a.approvalCommand(), a.accessCommand(), a.auditCommand(), a.reportCommand(), a.configCommand(), a.versionCommand(), a.manCommand(),
	}
}

// api is the running node's admin API, over the socket that its configuration
// names. A home that cannot be read is taken to have the default one, so that
// the answer is that no node runs.
func (a *app) api() (*client.Client, error) {
	home, err := a.homeDir()
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(home, adminSocket)
	cfg, err := loadConfig(home, nil)
	if _, none := os.Lstat(socket); noHome(err) && none != nil {
		return nil, &failure{exit: exitNoNode, code: "no_node", what: "no node is running: there is no home in " + home, next: "make one with `musen init`, or name yours with --home or MUSEN_HOME"}
	}
	if err == nil {
		if !cfg.HasKeys() {
			return nil, hostsHome(home, cfg.Role)
		}
		socket = cfg.Admin.Socket
	}
	why := firstOf(a.ticket, os.Getenv("MUSEN_TICKET"))
	if len(why) > maxTicket || strings.ContainsFunc(why, unicode.IsControl) {
		return nil, usageError("the ticket, of --ticket or MUSEN_TICKET, is not one line of at most %d bytes", maxTicket)
	}
	api := client.New(socket)
	api.Because(why)
	return api, nil
}

// maxTicket is how many bytes the node takes of why something is done.
const maxTicket = 1000

// hostsHome refuses a command of an operator in the home of a host.
func hostsHome(home, role string) error {
	kind := "a replica's"
	if role == config.RoleStorage {
		kind = "a storage node's"
	}
	return &failure{exit: exitUsage, code: "host_home", what: home + " is " + kind + " home: it has no stations, segments or peers of its own",
		next: "`musen replica status` tells how it is; to operate the origin, name its home with --home or MUSEN_HOME"}
}

// args checks the number of arguments.
func args(what string, n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < n:
			return usageError("%s needs %s", c.CommandPath(), what)
		case len(args) > n:
			return usageError("%s takes only %s; %q is too much", c.CommandPath(), what, args[n])
		}
		return nil
	}
}

// some takes one argument or more.
func some(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usageError("%s needs %s", c.CommandPath(), what)
		}
		return nil
	}
}

// atMost lets one argument pass, or none.
func atMost(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usageError("%s takes only %s; %q is too much", c.CommandPath(), what, args[1])
		}
		return nil
	}
}

// none lets no argument pass.
func none(c *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case c.HasSubCommands():
		return usageError("%s has no command %q", c.CommandPath(), args[0])
	}
	return usageError("%s takes no argument; %q is too much", c.CommandPath(), args[0])
}

// checkBuiltIn makes the commands that cobra adds refuse wrong arguments as all
// others do.
func checkBuiltIn(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Args = knownCommand
		case "completion":
			c.Args, c.RunE = none, showHelp
			for _, shell := range c.Commands() {
				shell.Args = none
			}
		}
	}
}

// knownCommand refuses to help with what is no command.
func knownCommand(c *cobra.Command, args []string) error {
	if found, rest, err := c.Root().Find(args); err != nil || len(rest) > 0 || found == nil {
		return usageError("there is no command %q", strings.Join(args, " "))
	}
	return nil
}

// showHelp is what a command that only holds others does.
func showHelp(c *cobra.Command, _ []string) error { return c.Help() }

// parseCIDs reads CIDs that a person gave.
func parseCIDs(args []string) ([]cid.Cid, error) {
	ids := make([]cid.Cid, len(args))
	for i, arg := range args {
		var err error
		if ids[i], err = parseCID(arg); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// parseCID reads a CID that a person gave as cidpath does: one with a wrong
// letter is never taken for another that decodes to the same bytes.
func parseCID(s string) (cid.Cid, error) {
	c, ok := cidpath.Parse(s)
	if !ok {
		return cid.Undef, &failure{exit: exitUsage, code: "bad_cid", what: fmt.Sprintf("%.128q is not the CID of a segment", s), next: "copy the CID whole; `musen ls` lists those of the segments"}
	}
	return c, nil
}

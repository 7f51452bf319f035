package policy

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/cedar-policy/cedar-go"
)

// parseError says where in which file the text is wrong, and what is expected
// there: the parser knows no names of files, and is short of words.
func parseError(name string, err error) error {
	at := regexp.MustCompile(`(?s)<input>:(\d+):\d+(?: "(.*)")?: (.*)$`).FindStringSubmatch(err.Error())
	if at == nil {
		return errors.New("parse policies: " + name + ": " + err.Error())
	}
	return fmt.Errorf("parse policies: %s:%s: %s", name, at[1], parseFault(at[2], at[3]))
}

// parseFault puts what the parser found into words; next is what comes after it.
func parseFault(next, found string) string {
	if got := regexp.MustCompile(`(?s)got (.*) want (\S+)$`).FindStringSubmatch(found); got != nil {
		if got[1] == "" {
			return fmt.Sprintf("the text ends where %q is expected", got[2])
		}
		return fmt.Sprintf("%q where %q is expected", got[1], got[2])
	}
	if effect, ok := strings.CutPrefix(found, "unexpected effect: "); ok {
		return fmt.Sprintf("%q where permit or forbid is expected", effect)
	}
	switch found {
	case "invalid primary":
		return fmt.Sprintf("no expression before %q; text stands in double quotes", next)
	case "expected ident":
		return fmt.Sprintf("a name is expected before %q; an entity is spelled like User::\"ann\"", next)
	case "expected string":
		return fmt.Sprintf("text in double quotes is expected before %q", next)
	}
	return found
}

// checkFault is what the validator found in the policy of that id, in one line.
func checkFault(id cedar.PolicyID, err error) string {
	text := strings.ReplaceAll(err.Error(), "for policy `"+string(id)+"`, ", "")
	return strings.ReplaceAll(text, "\n", "; ")
}

package cmd

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musenai/musen/policy"
	"github.com/musenai/musen/policy/scenario"
)

// A testedCase is one line of the result of policy test.
type testedCase struct {
	File     string   `json:"file"`
	Case     string   `json:"case"`
	Passed   bool     `json:"passed"`
	Allowed  bool     `json:"allowed"`
	Reason   string   `json:"reason"`
	Policies []string `json:"policies"`
	Expected string   `json:"expected,omitempty"` // where it did not pass
}

func (a *app) policyTest() *cobra.Command {
	var place string
	c := &cobra.Command{
		Use: "test FILE...", Short: "Decide the scenarios in files, and say which decisions are not as expected",
		Long: `test decides the cases in files of scenarios (TOML) by the policies of --policies, or those
that the home is configured with. It needs no running node. The exit code is 1 if any
decision is another than its file expects.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError("%s needs a file of scenarios", c.CommandPath())
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			var named []string
			if place != "" {
				named = []string{place}
			}
			policies, name, err := a.policyFiles(named)
			if err != nil {
				return err
			}
			if err := policy.Check(policies...); err != nil {
				return &failure{exit: exitUsage, code: "policy", cause: err, next: nextInvalid}
			}
			return a.testPolicies(policies, name, args)
		},
	}
	c.Flags().StringVar(&place, "policies", "", "a file of Cedar policies, or a folder of *.cedar (default: the configuration's)")
	return c
}

// testPolicies runs the scenarios in files, all of them whatever is wrong.
func (a *app) testPolicies(policies []policy.File, name string, files []string) error {
	total, wrong := 0, 0
	for _, path := range files {
		outcomes, err := runScenarios(policies, path)
		if err != nil {
			return err
		}
		for _, o := range outcomes {
			total++
			t := testedCase{path, o.Case, o.Wrong == "", o.Allowed, o.Reason, append([]string{}, o.Policies...), o.Wrong}
			if !t.Passed {
				wrong++
			}
			if err := a.printCase(t); err != nil {
				return err
			}
		}
	}
	if wrong > 0 {
		return &failure{exit: exitFailed, code: "scenarios_failed", what: fmt.Sprintf("%d of %d decisions are not as expected", wrong, total)}
	}
	if !a.json {
		fmt.Fprintf(a.stdout, "%d of %d as expected, by %s\n", total, total, name)
	}
	return nil
}

func runScenarios(policies []policy.File, path string) ([]scenario.Outcome, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, &failure{exit: exitUsage, code: "no_file", cause: err, next: "name a file of scenarios; docs/policies has an example, and --policies names the policies"}
	}
	suite, err := scenario.Parse(text)
	var outcomes []scenario.Outcome
	if err == nil {
		outcomes, err = suite.Run(policies)
	}
	if err != nil {
		return nil, &failure{exit: exitUsage, code: "scenarios", cause: fmt.Errorf("%s: %w", path, err), next: "mend the file; docs/policies has an example"}
	}
	return outcomes, nil
}

// printCase prints what is wrong, for a person, or every case as JSON.
func (a *app) printCase(t testedCase) error {
	if a.json {
		return a.printJSON(t)
	}
	if !t.Passed {
		answer := "denied"
		if t.Allowed {
			answer = "allowed"
		}
		fmt.Fprintf(a.stdout, "%s: %s: %s (%s, by %s), expected %s\n", t.File, t.Case, answer, t.Reason, firstOf(strings.Join(t.Policies, ", "), "none"), t.Expected)
	}
	return nil
}

package policy

import (
	_ "embed" // for the default policies and the schema
	"errors"
	"fmt"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"
)

//go:embed default.cedar
var defaultPolicies string

//go:embed schema.cedarschema
var schemaSource string

// maxPolicies keeps a decision cheap: its cost grows with every policy.
const maxPolicies = 64

// rules are policies that passed every check.
type rules struct {
	policies *cedar.PolicySet
	schema   *validate.Validator
}

// Check returns an error that says where policies are wrong, unless they parse
// and validate against the schema.
//
// It is Cedar's strict validation: every policy is type-checked for each kind
// of principal and resource that its actions apply to, so unknown entity types,
// actions and attributes, optional attributes without has, and comparisons of
// different types are refused, and so are policies that can never apply.
// Beyond that each policy needs an @id of its own, and none may name a single
// segment, because decisions hold for all segments of a station.
func Check(policies []byte) error {
	_, err := newRules(policies)
	return err
}

func newRules(policies []byte) (*rules, error) {
	v, err := newValidator()
	if err != nil {
		return nil, err
	}
	list, err := cedar.NewPolicyListFromBytes("policies", policies)
	if err != nil {
		return nil, fmt.Errorf("parse policies: %w", err)
	}
	if len(list) == 0 || len(list) > maxPolicies {
		return nil, fmt.Errorf("check policies: there are %d, want 1 to %d", len(list), maxPolicies)
	}
	r := &rules{cedar.NewPolicySet(), v}
	for _, p := range list {
		if err := r.add(p); err != nil {
			return nil, fmt.Errorf("check policy at line %d: %w", p.Position().Line, err)
		}
	}
	return r, nil
}

func newValidator() (*validate.Validator, error) {
	var s schema.Schema
	s.SetFilename("schema.cedarschema")
	if err := s.UnmarshalCedar([]byte(schemaSource)); err != nil {
		return nil, fmt.Errorf("parse the policy schema: %w", err)
	}
	resolved, err := s.Resolve()
	if err != nil {
		return nil, fmt.Errorf("resolve the policy schema: %w", err)
	}
	return validate.New(resolved, validate.WithStrict()), nil
}

func (r *rules) add(p *cedar.Policy) error {
	id := cedar.PolicyID(p.Annotations()["id"])
	if id == "" {
		return errors.New("it has no @id")
	}
	if r.policies.Get(id) != nil {
		return fmt.Errorf("%q is the @id of another one too", id)
	}
	tree := (*ast.Policy)(p.AST())
	if err := r.schema.Policy(string(id), tree); err != nil {
		return fmt.Errorf("%q: %w", id, err)
	}
	if namesSegment(tree) {
		return fmt.Errorf("%q: it names a single segment: take the segment down instead", id)
	}
	r.policies.Add(id, p)
	return nil
}

// namesSegment reports whether a policy has the id of a segment in it.
func namesSegment(p *ast.Policy) bool {
	if scopeNamesSegment(p.Resource) || scopeNamesSegment(p.Principal) {
		return true
	}
	found := false
	for _, c := range p.Conditions {
		ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
			if v, ok := n.(ast.NodeValue); ok {
				uid, ok := v.Value.(cedar.EntityUID)
				found = found || ok && uid.Type == typeSegment
			}
			return !found
		})
	}
	return found
}

func scopeNamesSegment(n ast.IsScopeNode) bool {
	switch s := n.(type) {
	case ast.ScopeTypeEq:
		return s.Entity.Type == typeSegment
	case ast.ScopeTypeIn:
		return s.Entity.Type == typeSegment
	case ast.ScopeTypeIsIn:
		return s.Entity.Type == typeSegment
	}
	return false
}

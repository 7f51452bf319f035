package policy

import (
	_ "embed" // for the default policies and the schema
	"encoding/base32"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"
)

//go:embed default.cedar
var defaultPolicies string

//go:embed schema.cedarschema
var schemaSource string

// maxPolicies keeps a decision cheap: its cost grows with every policy.
const maxPolicies = 64

// A File is Cedar text and what it is called in errors.
type File struct {
	Name string
	Text []byte
}

// rules are policies that passed every check.
type rules struct {
	number        uint64 // of the load, in order from 1; 0: not loaded, but the default ones
	files         []File
	policies      *cedar.PolicySet
	schema        *validate.Validator
	actions       cedar.EntityMap // the actions and the groups that they are in
	circumstances bool            // a policy asks for the time, the region, or anything else that changes
	limits        map[string]int  // id: annotation streams
}

// Check returns an error that says in which file and line policies are wrong,
// unless they parse and validate against the schema.
//
// It is Cedar's strict validation: every policy is type-checked for each kind
// of principal and resource that its actions apply to, so unknown entity types,
// actions and attributes, optional attributes without has, and comparisons of
// different types are refused, and so are policies that can never apply.
// Beyond that each policy needs an @id of its own, and none may name a single
// segment, because decisions hold for all segments of a station, or a station
// by anything but an id, because it would never apply.
func Check(files ...File) error {
	_, err := newRules(files)
	return err
}

// orDefault is files, or the default policies if there are none.
func orDefault(files []File) []File {
	if len(files) == 0 {
		return []File{{Name: "default.cedar", Text: DefaultPolicies()}}
	}
	return files
}

func newRules(files []File) (*rules, error) {
	v, resolved, err := newValidator()
	if err != nil {
		return nil, err
	}
	r := &rules{files: files, policies: cedar.NewPolicySet(), schema: v, actions: actionEntities(resolved), limits: map[string]int{}}
	n := 0
	for _, f := range files {
		list, err := cedar.NewPolicyListFromBytes(f.Name, f.Text)
		if err != nil {
			return nil, parseError(f.Name, err)
		}
		if n += len(list); n > maxPolicies {
			break
		}
		for _, p := range list {
			if err := r.add(p); err != nil {
				return nil, fmt.Errorf("check policy: %s:%d: %w", f.Name, p.Position().Line, err)
			}
		}
	}
	if n == 0 || n > maxPolicies {
		return nil, fmt.Errorf("check policies: there are %d, want 1 to %d", n, maxPolicies)
	}
	return r, nil
}

// actionEntities are the actions of the schema, each in its groups.
func actionEntities(s *resolved.Schema) cedar.EntityMap {
	m := cedar.EntityMap{}
	for uid, a := range s.Actions {
		m[uid] = cedar.Entity{UID: uid, Parents: a.Entity.Parents}
	}
	return m
}

func newValidator() (*validate.Validator, *resolved.Schema, error) {
	var s schema.Schema
	s.SetFilename("schema.cedarschema")
	if err := s.UnmarshalCedar([]byte(schemaSource)); err != nil {
		return nil, nil, fmt.Errorf("parse the policy schema: %w", err)
	}
	all, err := s.Resolve()
	if err != nil {
		return nil, nil, fmt.Errorf("resolve the policy schema: %w", err)
	}
	return validate.New(all, validate.WithStrict()), all, nil
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
		return fmt.Errorf("%q: %s", id, checkFault(id, err))
	}
	if err := checkNames(tree); err != nil {
		return fmt.Errorf("%q: %w", id, err)
	}
	if err := r.limit(string(id), p); err != nil {
		return fmt.Errorf("%q: %w", id, err)
	}
	r.circumstances = r.circumstances || asksForCircumstances(tree)
	r.policies.Add(id, p)
	return nil
}

// forbids are the ids of the policies that forbid, sorted.
func (r *rules) forbids() []string {
	var ids []string
	for id, p := range r.policies.All() {
		if p.Effect() == cedar.Forbid {
			ids = append(ids, string(id))
		}
	}
	slices.Sort(ids)
	return ids
}

// limit reads the annotation streams of a policy, if it has one.
func (r *rules) limit(id string, p *cedar.Policy) error {
	text, ok := p.Annotations()["streams"]
	if !ok {
		return nil
	}
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 1 || p.Effect() != cedar.Permit {
		return errors.New("@streams is a number from 1, on a permit")
	}
	r.limits[id] = n
	return nil
}

// streams is the smallest limit that the policies of those ids have, so that a
// wide permit beside a narrow one lifts nothing; 0 if none has one.
func (r *rules) streams(ids []string) int {
	least := 0
	for _, id := range ids {
		if n, ok := r.limits[id]; ok && (least == 0 || n < least) {
			least = n
		}
	}
	return least
}

// asksForCircumstances reports whether a policy looks at more of the context
// than follows from the credential and the action.
func asksForCircumstances(p *ast.Policy) bool {
	all, fixed := 0, 0
	for _, c := range p.Conditions {
		ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
			switch v := n.(type) {
			case ast.NodeTypeVariable:
				if v.Name == "context" {
					all++
				}
			case ast.NodeTypeAccess:
				if of, ok := v.Arg.(ast.NodeTypeVariable); ok && of.Name == "context" && (v.Value == "action" || v.Value == "credential") {
					fixed++
				}
			}
			return true
		})
	}
	return all != fixed
}

// checkNames returns an error if the policy names what no request is about.
func checkNames(p *ast.Policy) error {
	for _, uid := range entitiesIn(p) {
		switch id := string(uid.ID); {
		case uid.Type == typeSegment:
			return errors.New("it names a single segment: take the segment down instead")
		case uid.Type == typeStation && !isID(id):
			return fmt.Errorf("it names Station::%.80q, which is no id: write the id of a station, or resource.name == %.80[1]q", id)
		}
	}
	return nil
}

// isID reports whether s is spelled as ids of stations are: 128 bits in
// lower-case base32.
func isID(s string) bool {
	encoding := base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
	b, err := encoding.DecodeString(s)
	return err == nil && len(b) == 16 && encoding.EncodeToString(b) == s
}

// entitiesIn are the entities that a policy has the ids of in it, but for actions.
func entitiesIn(p *ast.Policy) []cedar.EntityUID {
	var uids []cedar.EntityUID
	for _, scope := range []ast.IsScopeNode{p.Principal, p.Resource} {
		switch s := scope.(type) {
		case ast.ScopeTypeEq:
			uids = append(uids, s.Entity)
		case ast.ScopeTypeIn:
			uids = append(uids, s.Entity)
		case ast.ScopeTypeIsIn:
			uids = append(uids, s.Entity)
		}
	}
	for _, c := range p.Conditions {
		ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
			if v, ok := n.(ast.NodeValue); ok {
				if uid, ok := v.Value.(cedar.EntityUID); ok {
					uids = append(uids, uid)
				}
			}
			return true
		})
	}
	return uids
}

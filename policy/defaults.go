package policy

// DefaultPolicies is the Cedar text that an Engine decides by when it is given
// none.
func DefaultPolicies() []byte { return []byte(defaultPolicies) }

package policy

// DefaultPolicies is the Cedar text that an Engine decides by when it is given
// none.
func DefaultPolicies() []byte { return []byte(defaultPolicies) }

// Schema is the Cedar schema that policies are validated against.
func Schema() []byte { return []byte(schemaSource) }

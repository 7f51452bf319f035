package policy

// A SubjectState says what the credentials of a subject are worth.
type SubjectState string

// The states of a subject. All can be set again to any other.
const (
	SubjectActive    SubjectState = "active"
	SubjectLimited   SubjectState = "limited"   // slower, and with fewer streams at a time
	SubjectSuspended SubjectState = "suspended" // nothing, for now
	SubjectEnded     SubjectState = "ended"     // nothing
)

// Bars reports whether the credentials of a subject in that state are refused.
func (s SubjectState) Bars() bool { return s == SubjectSuspended || s == SubjectEnded }

// Subjects answers from memory, as Revocations does.
type Subjects interface {
	// SubjectState is SubjectActive unless another state was set.
	SubjectState(subject string) SubjectState
}

// barred reports whether nothing of a subject is honoured now.
func barred(s Subjects, subject string) bool {
	return s != nil && s.SubjectState(subject).Bars()
}

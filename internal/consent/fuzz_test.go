package consent

import (
	"encoding/json"
	"testing"
	"time"
)

// FuzzRead: whatever a platform says, only allow that is true is a yes.
func FuzzRead(f *testing.F) {
	for _, s := range []string{`{"allow":true,"ttl":60}`, `{"allow":false}`, `{"allow":true,"allow":true}`, `{"ttl":1,"x":[{}],"allow":true}`, `[]`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := read(b)
		if err != nil {
			return
		}
		var m map[string]any
		if json.Unmarshal(b, &m) != nil || m["allow"] != v.allow || v.ttl < 0 || v.ttl > 1<<31*time.Second {
			t.Errorf("%q is %+v", b, v)
		}
	})
}

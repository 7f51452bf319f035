package alert

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// ParseSecret reads the secret of a Standard Webhooks receiver: "whsec_" and 24
// to 64 bytes in base64. An error says nothing of it.
func ParseSecret(secret string) ([]byte, error) {
	text, ok := strings.CutPrefix(strings.TrimSpace(secret), "whsec_")
	key, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(key) < minKey || len(key) > maxKey {
		return nil, fmt.Errorf(`the secret is not "whsec_" and %d to %d bytes in base64`, minKey, maxKey)
	}
	return key, nil
}

package alert

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ParseSecret reads the secret of a Standard Webhooks receiver: "whsec_" and 24
// to 64 bytes in base64, drawn at random: one that repeats itself or stands in a
// published example is refused. An error says nothing of it.
func ParseSecret(secret string) ([]byte, error) {
	text, ok := strings.CutPrefix(strings.TrimSpace(secret), "whsec_")
	key, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(key) < minKey || len(key) > maxKey {
		return nil, fmt.Errorf(`the secret is not "whsec_" and %d to %d bytes in base64`, minKey, maxKey)
	}
	distinct := map[byte]bool{}
	for _, b := range key {
		distinct[b] = true
	}
	if len(distinct) < minDistinct || slices.Contains(published(), text) {
		return nil, errors.New("the secret can be guessed: draw one at random")
	}
	return key, nil
}

// minDistinct is how many of its bytes differ. At random, 24 bytes with fewer
// do not come.
const minDistinct = 12

// published are the secrets in examples of Standard Webhooks and its libraries.
func published() []string {
	return []string{"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "C2FVsBQIhrscChlQIMV+b5sSYspob7oD"}
}

package policy

import (
	"slices"
	"time"
)

// secondFactors are the authentication methods of RFC 8176 that are more than
// a password: several factors, a key in hardware, a one-time password, a smart
// card.
func secondFactors() []string { return []string{"mfa", "hwk", "otp", "sc"} }

// secondFactor is when the bearer showed a second factor, by the claims
// auth_time and amr of OpenID Connect; zero if they do not both say so, or name
// a time after that of issue, which would be fresh for as long as they like.
func secondFactor(claims map[string]any) time.Time {
	list, _ := claims["amr"].([]any)
	methods, ok := textList(list)
	if !ok || !slices.ContainsFunc(methods, func(m string) bool { return slices.Contains(secondFactors(), m) }) {
		return time.Time{}
	}
	at, ok := numericDate(claims["auth_time"])
	issued, told := numericDate(claims["iat"])
	if !ok || !told || at.After(issued) {
		return time.Time{}
	}
	return at
}

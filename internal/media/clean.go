package media

// CleanText makes text that a stranger wrote fit for a log line, a header and
// a page, as the titles of Info are: one line of valid UTF-8 without control
// characters, at most 200 characters.
func CleanText(s string) string { return oneLine(s) }

package cat

import (
	"testing"
)

// Wycheproof's vectors of HMAC-SHA-256: what it calls invalid is refused, and
// what it calls valid is taken if the tag is whole.
func TestWycheproofHMAC(t *testing.T) {
	var file struct {
		NumberOfTests int
		TestGroups    []struct {
			TagSize int
			Tests   []struct {
				TcID                           int
				Comment, Key, Msg, Tag, Result string
			}
		}
	}
	readVectors(t, "../../testdata/wycheproof/hmac_sha256_test.json", &file)
	tried, valid := 0, 0
	for _, g := range file.TestGroups {
		for _, c := range g.Tests {
			tried++
			want := c.Result == "valid" && g.TagSize == 256
			if want {
				valid++
			}
			if got := authentic(fromHex(t, c.Key), fromHex(t, c.Msg), fromHex(t, c.Tag)); got != want {
				t.Errorf("%d: %s, tag of %d bits: accepted is %v", c.TcID, c.Comment, g.TagSize, got)
			}
		}
	}
	if tried != file.NumberOfTests || valid < 30 {
		t.Errorf("%d of %d vectors, %d valid", tried, file.NumberOfTests, valid)
	}
}

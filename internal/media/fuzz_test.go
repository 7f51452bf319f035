package media

import "testing"

// fuzz checks, for any stream, what Probe promises of all.
func fuzz(f *testing.F, names ...string) {
	all := samples(f)
	for _, name := range names {
		b := all[name]
		f.Add(b[:min(len(b), 8<<10)], uint16(100))
		f.Add(b[len(b)-min(len(b), 4<<10):], uint16(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, piece uint16) {
		info := probe(b)
		if !clean(info.Title) || !clean(info.Artist) {
			t.Errorf("told %q, %q", info.Title, info.Artist)
		}
		if info.Duration < 0 || info.MediaType == "" && info != (Info{}) {
			t.Errorf("told %+v", info)
		}
		p := NewProbe()
		for n := int(piece) + 1; len(b) > 0; b = b[n:] {
			n = min(n, len(b))
			p.Write(b[:n])
			if held := cap(p.walk.held); held > maxHeld {
				t.Fatalf("%d bytes held", held)
			}
		}
		if got := p.Info(); got != info {
			t.Errorf("in pieces of %d told %+v, in one %+v", piece, got, info)
		}
	})
}

func FuzzProbe(f *testing.F) {
	fuzz(f, "id3v1.mp3", "plain.aac", "fragmented.m4a", "vorbis.ogg", "rf64.wav", "segment.ts", "opus.webm", "05-harbour-light.flac")
}

func FuzzMP3(f *testing.F)  { fuzz(f, "id3v1.mp3", "id3v24.mp3", "mpeg2.mp3", "01-station-ident.mp3") }
func FuzzAAC(f *testing.F)  { fuzz(f, "plain.aac", "03-morning-news.aac") }
func FuzzMP4(f *testing.F)  { fuzz(f, "fragmented.m4a", "08-jingle.m4a", "02-harbour-light.m4a") }
func FuzzOgg(f *testing.F)  { fuzz(f, "vorbis.ogg", "flac.ogg", "chained.ogg", "04-night-ferry.opus") }
func FuzzFLAC(f *testing.F) { fuzz(f, "05-harbour-light.flac") }
func FuzzWAV(f *testing.F)  { fuzz(f, "rf64.wav", "extensible.wav", "pipe.wav", "06-time-signal.wav") }
func FuzzTS(f *testing.F)   { fuzz(f, "segment.ts", "mp3.ts") }
func FuzzWebM(f *testing.F) { fuzz(f, "opus.webm", "live.webm", "opus.mka") }

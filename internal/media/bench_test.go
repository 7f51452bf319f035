package media

import (
	"bytes"
	"testing"
)

// BenchmarkProbe shows what watching costs on the way of audio to the seal: a
// 16 MiB stream in writes of 64 KiB.
func BenchmarkProbe(b *testing.B) {
	all := samples(b)
	for _, name := range []string{
		"05-harbour-light.flac", "06-time-signal.wav", "02-harbour-light.m4a", "04-night-ferry.opus",
		"07-night-ferry-radio-edit.mp3", "03-morning-news.aac", "segment.ts", "opus.webm",
	} {
		one := all[name]
		stream := bytes.Repeat(one, 1+16<<20/len(one))[:16<<20]
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			for b.Loop() {
				p := NewProbe()
				for i := 0; i < len(stream); i += 64 << 10 {
					p.Write(stream[i : i+64<<10])
				}
				if p.Info().MediaType == "" {
					b.Fatal("not audio")
				}
			}
		})
	}
}

#!/bin/sh
# Makes the small samples of what radio also sends: other containers, other
# ways to write a header. A chord of three sine waves, 3 s each or shorter,
# free to use for anything (CC0).
#
#   apt-get install ffmpeg lame && ./make.sh
set -eu
cd "$(dirname "$0")"
exact='-hide_banner -loglevel error -y -fflags +bitexact -flags:a +bitexact'
chord="aevalsrc=0.2*sin(440*2*PI*t)+0.2*sin(554*2*PI*t)+0.2*sin(659*2*PI*t):s=44100:d=3"
make() { # file options…
	out=$1
	shift
	# shellcheck disable=SC2086
	ffmpeg $exact -f lavfi -i "$chord" -map_metadata -1 \
		-metadata title='Chord of A' -metadata artist='Three Sines' "$@" "$out"
}
make id3v1.mp3 -c:a libmp3lame -b:a 32k -write_xing 0 -id3v2_version 0
make id3v24.mp3 -c:a libmp3lame -b:a 32k -write_xing 0 -id3v2_version 4
make mpeg2.mp3 -c:a libmp3lame -b:a 24k -ar 22050 -id3v2_version 3
make layer2.mp2 -c:a mp2 -b:a 64k
make plain.aac -c:a aac -b:a 32k -f adts
make fragmented.m4a -c:a aac -b:a 32k -movflags +frag_keyframe+empty_moov+default_base_moof -frag_duration 500000
make vorbis.ogg -c:a libvorbis -ar 44100 -q:a 0 -serial_offset 7
make flac.ogg -c:a flac -ar 8000 -serial_offset 7
make segment.ts -c:a aac -b:a 32k -f mpegts
make mp3.ts -c:a libmp3lame -b:a 32k -f mpegts
make opus.webm -c:a libopus -b:a 24k
make live.webm -c:a libopus -b:a 24k -live 1
make opus.mka -c:a libopus -b:a 24k
make rf64.wav -c:a pcm_s16le -ar 8000 -rf64 always
make extensible.wav -c:a pcm_s24le -ar 8000
ffmpeg $exact -f lavfi -i "$chord" -c:a pcm_u8 -ar 8000 -f wav - >pipe.wav
ffmpeg $exact -f lavfi -i testsrc=s=16x16:d=1:r=5 -f lavfi -i "$chord" -t 1 -c:v mpeg4 -c:a aac -b:a 32k video.mp4
printf 'TAG%s%030d%04d%030d\001' "$(printf '%-30s%-30s' 'Chord of A' 'Three Sines')" 0 1999 0 | tr 0 '\000' >>id3v1.mp3
cat vorbis.ogg vorbis.ogg >chained.ogg

#!/bin/sh
# Makes the bundled audio from the words and notes below, and nothing else.
#
#   apt-get install espeak-ng fluidsynth fluid-soundfont-gm abcmidi sox ffmpeg lame opus-tools flac
#   ./make.sh
#
# The files are checked in; run this only to change them, then correct the
# table in README.md and the expected figures of internal/media.
set -eu
cd "$(dirname "$0")"
font=${SOUNDFONT:-/usr/share/sounds/sf2/FluidR3_GM.sf2}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
artist='Demo Radio'
album='Sounds of the Demo Station'

# --- words -------------------------------------------------------------------

cat >"$tmp/ident.txt" <<'TEXT'
You are listening to Demo Radio. Small station, good company.
TEXT

cat >"$tmp/news.txt" <<'TEXT'
Good morning. Here is the news from the demo station. A lighthouse keeper
reports calm water and a full moon over the bay. The night ferry came in four
minutes early, and nobody minded. In the village square, the choir is looking
for one more alto; practice is on Thursday at seven. The weather: light wind
from the west, some cloud by noon, dry until the evening. That was the news.
I am a synthetic voice, and this is Demo Radio.
TEXT

cat >"$tmp/time.txt" <<'TEXT'
At the tone, it is eight o'clock.
TEXT

# --- notes (ABC notation) ----------------------------------------------------

cat >"$tmp/morning.abc" <<'ABC'
X:1
T:Harbour Light
M:4/4
L:1/8
Q:1/4=112
V:1
V:2
V:3
K:D
[V:1]
%%MIDI program 11
%%MIDI gchordoff
F2 A2 d3 c | B2 A2 F4 | G2 B2 e3 d | c2 B2 A4 |
d2 f2 e3 d | B2 d2 A4 | G2 F2 E2 C2 | D6 z2 |
[V:2]
%%MIDI program 0
D,A, DF A,D FA | B,,F, B,D F,B, DF | E,B, EG B,E GB | A,,E, A,C E,A, CE |
D,A, DF A,D FA | G,,D, G,B, D,G, B,D | A,,E, A,C E,G, A,C | D,A, DF [D6F6A6] |]
[V:3]
%%MIDI program 32
D,,4 A,,,4 | B,,,4 F,,,4 | E,,4 B,,,4 | A,,,4 E,,,4 |
D,,4 A,,,4 | G,,,4 D,,4 | A,,,4 A,,,4 | D,,8 |]
ABC

cat >"$tmp/ferry.abc" <<'ABC'
X:2
T:Night Ferry
M:3/4
L:1/8
Q:1/4=84
V:1
V:2
K:Am
[V:1]
%%MIDI program 73
%%MIDI gchordoff
A4 c2 | e4 d2 | c4 B2 | A6 | f4 e2 | d4 c2 | B4 ^G2 | E6 |
A4 c2 | e4 g2 | f4 d2 | B6 | c4 A2 | B4 ^G2 | A6- | A6 |]
[V:2]
%%MIDI program 24
A,,2 E,2 C2 | A,,2 E,2 C2 | F,,2 C,2 A,2 | A,,2 E,2 C2 |
D,2 A,2 F2 | D,2 A,2 F2 | E,2 B,2 ^G2 | E,2 B,2 D2 |
A,,2 E,2 C2 | C,2 G,2 E2 | D,2 A,2 F2 | G,,2 D,2 B,2 |
A,,2 E,2 C2 | E,2 B,2 ^G2 | A,,2 E,2 A,2 | [A,,6E,6A,6C6] |]
ABC

cat >"$tmp/jingle.abc" <<'ABC'
X:3
T:Jingle
M:4/4
L:1/8
Q:1/4=132
K:G
%%MIDI program 9
D2 G2 B2 d2 | c A B G D4 | E2 A2 ^c2 e2 | d f a f [d4f4a4d'4] | [G,8G8B8d8] |]
ABC

# --- performance -------------------------------------------------------------

say() { # name voice words-per-minute: one channel, 44.1 kHz
	espeak-ng -v "$2" -s "$3" -f "$tmp/$1.txt" -w "$tmp/$1.raw.wav"
	sox -R "$tmp/$1.raw.wav" -r 44100 "$tmp/$1.wav" gain -n -3 pad 0.1 0.3
}

play() { # name seconds: two channels, 44.1 kHz, faded out
	abc2midi "$tmp/$1.abc" -o "$tmp/$1.mid" >/dev/null
	fluidsynth -q -n -i -g 0.6 -r 44100 -T wav -O s16 -F "$tmp/$1.raw.wav" "$font" "$tmp/$1.mid"
	sox -R "$tmp/$1.raw.wav" -b 16 "$tmp/$1.wav" gain -n -2 fade t 0 "$2" 1.5
}

say ident en-gb 150
say news en-gb 155
say time en-us 145
play morning 18
play ferry 34
play jingle 10
sox -R -n -r 44100 -c 1 -b 16 "$tmp/tone.wav" synth 1 sine 1000 fade t 0.01 1 0.05 gain -6
sox -R "$tmp/time.wav" "$tmp/tone.wav" -r 22050 -b 16 "$tmp/signal.wav"

# --- files -------------------------------------------------------------------

exact='-hide_banner -loglevel error -y -fflags +bitexact -flags:a +bitexact'
encode() { # in title out options…
	in=$1 title=$2 out=$3
	shift 3
	# shellcheck disable=SC2086
	ffmpeg $exact -i "$in" -map_metadata -1 -metadata "title=$title" \
		-metadata "artist=$artist" -metadata "album=$album" "$@" "$out"
}

rm -f ./*.mp3 ./*.aac ./*.m4a ./*.opus ./*.flac ./*.wav
lame --quiet -V 4 --id3v2-only --tt 'Station Ident' --ta "$artist" --tl "$album" \
	"$tmp/ident.wav" 01-station-ident.mp3
encode "$tmp/morning.wav" 'Harbour Light' 02-harbour-light.m4a -c:a aac -b:a 96k
# ADTS has no tags of its own: an ID3v2 tag goes before the first frame.
encode "$tmp/news.wav" 'Morning News' 03-morning-news.aac -c:a aac -b:a 48k -f adts -write_id3v2 1
opusenc --quiet --serial 1 --bitrate 56 --title 'Night Ferry' --artist "$artist" --album "$album" \
	"$tmp/ferry.wav" 04-night-ferry.opus
sox -R -D "$tmp/morning.wav" -r 32000 "$tmp/lossless.wav" gain -5
flac --silent --totally-silent -f -8 --no-padding -T 'TITLE=Harbour Light (Lossless)' -T "ARTIST=$artist" \
	-T "ALBUM=$album" -o 05-harbour-light.flac "$tmp/lossless.wav"
encode "$tmp/signal.wav" 'Time Signal' 06-time-signal.wav -c:a pcm_s16le
lame --quiet -V 3 --add-id3v2 --tt 'Night Ferry (Radio Edit)' --ta "$artist" --tl "$album" \
	"$tmp/ferry.wav" 07-night-ferry-radio-edit.mp3
encode "$tmp/jingle.wav" 'Jingle' 08-jingle.m4a -c:a aac -b:a 64k -movflags +faststart

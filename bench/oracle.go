package main

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// oraclePairs is how many pairs of refusals are timed.
const oraclePairs = 5000

// An oracle is what somebody who is refused could learn from the clock: how long
// it takes to refuse a segment that is there and one that is not.
type oracle struct {
	there, absent float64 // µs, medians
	p             float64 // of Mann and Whitney: chance of such a difference if there is none
}

// askOracle times refusals of two paths, in pairs of random order, on one
// connection.
func askOracle(base, token, there, absent string) (o oracle, err error) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		return o, err
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	paths := [2]string{there, absent}
	var took [2][]float64
	for i := range oraclePairs + oraclePairs/10 {
		first := rand.IntN(2)
		for _, which := range [2]int{first, 1 - first} {
			d, err := timeRefusal(conn, in, paths[which], token)
			if err != nil {
				return o, err
			}
			if i >= oraclePairs/10 { // the first ones warm up
				took[which] = append(took[which], float64(d)/1e3)
			}
		}
	}
	return oracle{median(took[0]), median(took[1]), mannWhitney(took[0], took[1])}, nil
}

func timeRefusal(conn net.Conn, in *bufio.Reader, path, token string) (time.Duration, error) {
	start := time.Now()
	if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+token+"\r\n\r\n"); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusNotFound {
		return 0, fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	return time.Since(start), nil
}

// mannWhitney is the chance that samples of one size differ so much in rank if
// they are of one distribution, by the normal approximation.
func mannWhitney(a, b []float64) float64 {
	type sample struct {
		v    float64
		of   int
		rank float64
	}
	var all []sample
	for _, v := range a {
		all = append(all, sample{v: v})
	}
	for _, v := range b {
		all = append(all, sample{v: v, of: 1})
	}
	slices.SortFunc(all, func(x, y sample) int {
		switch {
		case x.v < y.v:
			return -1
		case x.v > y.v:
			return 1
		}
		return 0
	})
	ranks := 0.0
	for i := 0; i < len(all); {
		j := i
		for j < len(all) && all[j].v == all[i].v {
			j++
		}
		for k := i; k < j; k++ { // equal ones share their ranks
			if all[k].of == 0 {
				ranks += float64(i+j+1) / 2
			}
		}
		i = j
	}
	n, m := float64(len(a)), float64(len(b))
	u := ranks - n*(n+1)/2
	return math.Erfc(math.Abs(u-n*m/2) / math.Sqrt(n*m*(n+m+1)/12) / math.Sqrt2)
}

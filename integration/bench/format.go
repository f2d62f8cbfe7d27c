package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// number formats a figure with about three significant digits. From 1,000 on it has no
// decimals, and groups of three digits.
func number(v float64) string {
	switch {
	case v >= 1000:
		return grouped(int64(math.Round(v)))
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
}

func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	var b strings.Builder
	for i, digit := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(digit)
	}
	return b.String()
}

// ratio formats a median and its spread. The spread is left out if there is one round.
func (s Spread) ratio() string { return s.format(number) }

// count formats a number of things in the same way.
func (s Spread) count() string { return s.format(compact) }

func (s Spread) format(number func(float64) string) string {
	if s.Min == s.Max {
		return number(s.Median)
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.Median), number(s.Min), number(s.Max))
}

// compact formats a whole number without decimals, and any other as number does.
func compact(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return grouped(int64(v))
	}
	return number(v)
}
